//! What a drill imports: the Unicode character database, in an order that only the seed decides.
//!
//! Record number *g* (from 0, without end) is line `g mod L` of the `L` lines; from the second pass on,
//! its value ends with the number of the pass, so that every pass changes every value. Transaction number
//! *t* takes the next 1 to 8 records; how many, the seed and *t* say. Each transaction also sets the key
//! [`PROGRESS_KEY`] of another keyspace to the number of transactions so far.
//!
//! Invariant: the state after *n* transactions is a function of the seed and *n* ([`Model`]), and no two
//! such states are equal. What a crash left is therefore a prefix of the commit order if and only if it
//! is the state for the *n* that it names.

use super::random::Random;
use flate2::read::GzDecoder;
use std::io::Read;

/// The keyspace of the records.
pub const RECORDS: &str = "characters";
/// The keyspace of the count of transactions.
pub const PROGRESS: &str = "progress";
/// The key of that count, in decimal digits.
pub const PROGRESS_KEY: &str = "transactions";

/// The most records in one transaction.
const TRANSACTION_RECORDS_MAX: u64 = 8;

/// `UnicodeData.txt` of Unicode 15.0, compressed. Its licence lies beside it.
const DATA: &[u8] = include_bytes!("../../data/UnicodeData.txt.gz");

/// The lines that are imported.
#[derive(Debug)]
pub struct Lines {
    text: String,
    /// Start of each line and the length of its key: what stands before the first `;`.
    lines: Vec<(usize, usize, usize)>,
}

impl Lines {
    /// Unpacks the data.
    pub fn unpack() -> std::io::Result<Lines> {
        let mut text = String::new();
        GzDecoder::new(DATA).read_to_string(&mut text)?;
        let mut lines = Vec::new();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let content = line.trim_end_matches(['\r', '\n']);
            if let Some(key) = content.find(';') {
                lines.push((start, key, content.len()));
            }
            start += line.len();
        }
        Ok(Lines { text, lines })
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.lines.len() as u64
    }

    /// The key of a line: a code point such as `1F600`.
    pub fn key(&self, line: u64) -> &str {
        let (start, key, _) = self.lines[line as usize];
        &self.text[start..start + key]
    }

    /// The value of a line in a pass: the whole line.
    pub fn value(&self, line: u64, pass: u64) -> String {
        let (start, _, length) = self.lines[line as usize];
        let text = &self.text[start..start + length];
        if pass == 0 { text.to_owned() } else { format!("{text};pass {pass}") }
    }
}

/// Where the transactions stand: how many, and how many records in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    seed: u64,
    /// Transactions so far.
    pub transactions: u64,
    /// Records so far.
    pub records: u64,
}

impl Position {
    /// Before the first transaction.
    pub fn start(seed: u64) -> Position {
        Position { seed, transactions: 0, records: 0 }
    }

    /// After `transactions`.
    pub fn after(seed: u64, transactions: u64) -> Position {
        let mut position = Position::start(seed);
        while position.transactions < transactions {
            position.advance();
        }
        position
    }

    /// Takes the next transaction; returns the numbers of its records.
    pub fn advance(&mut self) -> std::ops::Range<u64> {
        let mut random =
            Random::new(self.seed ^ self.transactions.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let first = self.records;
        self.transactions += 1;
        self.records += 1 + random.below(TRANSACTION_RECORDS_MAX);
        first..self.records
    }
}

/// The state after a number of records.
#[derive(Debug)]
pub struct Model<'a> {
    /// The lines.
    pub lines: &'a Lines,
    /// Records so far.
    pub records: u64,
}

impl Model<'_> {
    /// How many keys there are.
    pub fn keys(&self) -> u64 {
        self.records.min(self.lines.count())
    }

    /// The value that a line's key has; `None` if it was not imported yet.
    pub fn value(&self, line: u64) -> Option<String> {
        let last = self.records.checked_sub(line + 1)?;
        Some(self.lines.value(line, last / self.lines.count()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_model_is_what_the_transactions_do() {
        let lines = Lines::unpack().unwrap();
        assert_eq!(lines.count(), 34_924);
        assert_eq!(lines.key(65), "0041");
        assert!(lines.value(65, 0).starts_with("0041;LATIN CAPITAL LETTER A;Lu;0;L;;"));
        let mut position = Position::start(7);
        let mut state = BTreeMap::new();
        for transaction in 1..=20_000 {
            for record in position.advance() {
                let (line, pass) = (record % lines.count(), record / lines.count());
                state.insert(line, lines.value(line, pass));
            }
            if transaction % 5000 == 0 {
                assert_eq!(position, Position::after(7, transaction));
                let model = Model { lines: &lines, records: position.records };
                assert_eq!(model.keys(), state.len() as u64);
                for line in 0..lines.count() {
                    assert_eq!(model.value(line).as_ref(), state.get(&line));
                }
            }
        }
        assert!(position.records > 2 * lines.count());
    }
}
