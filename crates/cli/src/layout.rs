//! Paragraphs that fit a terminal of 80 columns.

/// The width that everything is made for, in characters.
pub const COLUMNS: usize = 80;

/// Breaks `text` at blanks so that it fits, `head` before the first line and as many blanks before the
/// others. A word that is too long for a line (a path, a key) stays whole.
pub fn paragraph(head: &str, text: &str) -> Vec<String> {
    let indent = head.chars().count();
    let mut lines = Vec::new();
    let mut line = head.to_owned();
    let mut width = indent;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if width > indent {
            if width + 1 + length > COLUMNS {
                lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
                width = indent;
            } else {
                line.push(' ');
                width += 1;
            }
        }
        line.push_str(word);
        width += length;
    }
    lines.push(line.trim_end().to_owned());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_fit() {
        let text = "word ".repeat(60);
        let lines = paragraph("head         ", &text);
        assert!(lines.len() > 3 && lines.iter().all(|line| line.chars().count() <= COLUMNS));
        assert!(lines[1].starts_with("             word"));
        assert_eq!(paragraph("a  ", "b"), ["a  b"]);
        assert_eq!(paragraph("a  ", ""), ["a"]);
        let long = "k".repeat(200);
        assert_eq!(paragraph("a  ", &format!("b {long}")), ["a  b", &format!("   {long}")]);
    }
}
