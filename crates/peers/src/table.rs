//! The table for people, plain and as Markdown.

use crate::json::Circumstances;
use crate::report::{OURS, Row};
use std::fmt::Write;

/// Width of a column of figures.
const COLUMN: usize = 10;

/// A figure in three or four digits: `1.23 M`, `45.6 k`, `0.12`.
pub fn figure(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        large if large >= 999_500.0 => (value / 1e6, " M"),
        large if large >= 9_995.0 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let digits = match scaled.abs() {
        large if large >= 99.95 => 0,
        large if large >= 9.995 => 1,
        _ => 2,
    };
    format!("{scaled:.digits$}{unit}")
}

/// A ratio, with two digits that say something also where it is small.
pub fn times(ratio: f64) -> String {
    let digits = match ratio {
        small if small > 0.0 && small < 0.0995 => (1.0 - small.log10().floor()).min(9.0) as usize,
        _ => 2,
    };
    format!("{ratio:.digits$}")
}

fn cells(row: &Row, engines: &[&'static str]) -> Vec<String> {
    let mut cells: Vec<String> = engines
        .iter()
        .map(|engine| match row.of(engine) {
            Some(summary) => {
                let has = |texts: &[(&str, String)]| texts.iter().any(|(name, _)| name == engine);
                let star = if has(&row.notes) { "*" } else { "" };
                let text = format!("{}{star}", figure(summary.median));
                if has(&row.asides) { format!("({text})") } else { text }
            }
            None => "-".to_owned(),
        })
        .collect();
    cells.push(row.floor.map_or_else(String::new, |floor| figure(floor.median)));
    let ratio = row.ratio.map_or_else(|| "-".to_owned(), times);
    cells.push(ratio);
    cells.push(row.floor_ratio.map_or_else(String::new, times));
    let spreads = [row.of(OURS), row.best_peer.and_then(|peer| row.of(peer))];
    let spread = spreads.iter().flatten().map(|summary| summary.spread()).reduce(f64::max);
    // Of one run, or of runs that gave the same, there is none.
    let spread = spread.filter(|spread| *spread > 0.0 && spread.is_finite());
    cells.push(spread.map_or_else(String::new, |spread| format!("{:.0}%", spread * 100.0)));
    cells.push(match row.meets() {
        None => String::new(),
        Some(true) => "yes".to_owned(),
        Some(false) => bar(row),
    });
    cells
}

/// What is asked of a row that does not give it.
fn bar(row: &Row) -> String {
    let mut parts = Vec::new();
    if let (Some(bar), Some(ratio)) = (row.phase.bar, row.ratio)
        && ratio < bar
    {
        parts.push(format!("NO {bar}"));
    }
    if let (Some(bar), Some(ratio)) = (row.phase.floor_bar, row.floor_ratio)
        && ratio < bar
    {
        parts.push(format!("NO f{bar}"));
    }
    parts.join(" ")
}

fn heads(engines: &[&'static str]) -> Vec<&'static str> {
    let mut heads = engines.to_vec();
    heads.extend(["bare", "ratio", "/bare", "spread", "bar"]);
    heads
}

/// The table for a terminal.
pub fn plain(rows: &[Row], circumstances: &Circumstances) -> String {
    let engines: Vec<&'static str> = circumstances.engines.iter().map(|about| about.name).collect();
    let mut text = String::new();
    let title = rows.iter().map(|row| row.phase.title.len()).max().unwrap_or(0).max(5);
    let unit = rows.iter().map(|row| row.phase.unit.len()).max().unwrap_or(0).max(4);
    let _ = write!(text, "{:title$}  {:unit$}", "phase", "unit");
    for head in heads(&engines) {
        let _ = write!(text, " {head:>COLUMN$}");
    }
    text.push('\n');
    for row in rows {
        let _ = write!(text, "{:title$}  {:unit$}", row.phase.title, row.phase.unit);
        for cell in cells(row, &engines) {
            let _ = write!(text, " {cell:>COLUMN$}");
        }
        while text.ends_with(' ') {
            text.pop();
        }
        text.push('\n');
    }
    text.push_str(
        "\nratio: ours over the best peer with the same promise, turned so that more is better\n\
         /bare: ours over bare system calls in the same run; spread: half the range over the median, the larger of ours and the best peer's\n",
    );
    for note in gathered(rows, |row| &row.notes) {
        let _ = writeln!(text, "* {note}");
    }
    for why in gathered(rows, |row| &row.asides) {
        let _ = writeln!(text, "() {why}");
    }
    for why in gathered(rows, |row| &row.missing) {
        let _ = writeln!(text, "- {why}");
    }
    text
}

/// The texts of all rows, each once with its engine and the titles of the rows that it belongs to.
fn gathered<'a>(
    rows: &'a [Row],
    texts: impl Fn(&'a Row) -> &'a [(&'static str, String)],
) -> Vec<String> {
    let mut found: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for row in rows {
        for (engine, text) in texts(row) {
            match found.iter_mut().find(|known| (known.0, known.1) == (*engine, text.as_str())) {
                Some((.., titles)) => titles.push(row.phase.title),
                None => found.push((engine, text, vec![row.phase.title])),
            }
        }
    }
    let lines = found.into_iter().map(|(engine, text, titles)| {
        let more = match titles.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        format!("{engine}, {}{more}: {text}", titles[0])
    });
    lines.collect()
}

/// What the engines promise, for a terminal.
pub fn promises(circumstances: &Circumstances) -> String {
    let mut text = String::new();
    for about in &circumstances.engines {
        let _ = writeln!(text, "{} {}", about.name, about.version);
        let _ = writeln!(text, "  durable   {}", about.durable);
        let _ = writeln!(text, "  buffered  {}", about.buffered.as_deref().unwrap_or("none"));
        let _ = writeln!(text, "  memory    {}", about.memory.as_deref().unwrap_or("none"));
        let _ = writeln!(text, "  set-up    {}", about.notes);
    }
    text
}

/// The table as Markdown, with its circumstances.
pub fn markdown(rows: &[Row], circumstances: &Circumstances) -> String {
    let engines: Vec<&'static str> = circumstances.engines.iter().map(|about| about.name).collect();
    let mut text = format!(
        "Measured on {} ({}), {}, with `{}`.\n\n",
        circumstances.date,
        circumstances.machine,
        match circumstances.runs {
            0 | 1 => "one run of each".to_owned(),
            runs => format!("medians of at least {runs} runs"),
        },
        circumstances.commands.join("`, `")
    );
    text.push_str("| phase | unit |");
    for head in heads(&engines).iter().take(engines.len() + 4) {
        let _ = write!(text, " {head} |");
    }
    text.push_str("\n|---|---|");
    text.push_str(&"---:|".repeat(engines.len() + 4));
    text.push('\n');
    for row in rows {
        let _ = write!(text, "| {} | {} |", row.phase.title, row.phase.unit);
        for cell in cells(row, &engines).iter().take(engines.len() + 4) {
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text.push_str(
        "\nRatio: ours over the best peer with the same promise, turned so that more is better; \
         `/bare`: ours over bare system calls in the same run.\n",
    );
    let mut lines: Vec<String> =
        gathered(rows, |row| &row.notes).iter().map(|note| format!("\\* {note}")).collect();
    lines.extend(gathered(rows, |row| &row.asides).iter().map(|why| format!("() {why}")));
    lines.extend(gathered(rows, |row| &row.missing).iter().map(|why| format!("\\- {why}")));
    for line in lines {
        let _ = writeln!(text, "\n{line}.");
    }
    text.push_str("\n| engine | version | durable commit | buffered commit | commit in memory |\n|---|---|---|---|---|\n");
    for about in &circumstances.engines {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            about.name,
            about.version,
            about.durable,
            about.buffered.as_deref().unwrap_or("none"),
            about.memory.as_deref().unwrap_or("none")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        for (value, text) in [
            (0.0, "0.00"),
            (0.123, "0.12"),
            (9.994, "9.99"),
            (12.34, "12.3"),
            (999.6, "1000"),
            (9_994.0, "9994"),
            (9_996.0, "10.0 k"),
            (123_456.0, "123 k"),
            (999_600.0, "1.00 M"),
            (12_345_678.0, "12.3 M"),
        ] {
            assert_eq!(figure(value), text);
        }
    }

    #[test]
    fn small_ratios_say_how_small() {
        let cases = [
            (151.42, "151.42"),
            (0.5, "0.50"),
            (0.0994, "0.099"),
            (0.0573, "0.057"),
            (0.0, "0.00"),
        ];
        for (ratio, text) in cases.into_iter().chain([(0.000_078_9, "0.000079")]) {
            assert_eq!(times(ratio), text);
        }
    }
}
