//! The options that choose keys: a prefix, a first key, a key to stop before.

use crate::failure::Failure;
use crate::text::Form;
use std::ops::Bound;

/// The options that choose keys.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct Keys {
    /// Only keys that start with this
    #[arg(long, value_name = "P")]
    prefix: Option<String>,
    /// Only keys at or after this one
    #[arg(long, value_name = "K")]
    from: Option<String>,
    /// Only keys before this one
    #[arg(long, value_name = "K")]
    to: Option<String>,
}

/// A range of keys: at or after the first, before the second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The smallest key.
    pub lower: Vec<u8>,
    /// The smallest key that is too large; `None`: there is none.
    pub upper: Option<Vec<u8>>,
}

impl Keys {
    /// Whether every key is meant.
    pub fn is_all(&self) -> bool {
        self.prefix.is_none() && self.from.is_none() && self.to.is_none()
    }

    /// The keys that all the options allow.
    pub fn span(&self, form: Form) -> Result<Span, Failure> {
        let read = |what, typed: &Option<String>| {
            typed.as_ref().map(|typed| form.read(what, typed)).transpose()
        };
        let prefix = read("--prefix", &self.prefix)?.unwrap_or_default();
        let from = read("--from", &self.from)?.unwrap_or_default();
        let to = read("--to", &self.to)?;
        let upper = [to, after_prefix(&prefix)].into_iter().flatten().min();
        Ok(Span { lower: from.max(prefix), upper })
    }
}

impl Span {
    /// As bounds of a scan.
    pub fn bounds(self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        (Bound::Included(self.lower), self.upper.map_or(Bound::Unbounded, Bound::Excluded))
    }

    /// Whether a key lies in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.lower.as_slice() <= key && self.upper.as_deref().is_none_or(|upper| key < upper)
    }

    /// Whether a range of keys, without its end to the last of all, meets it.
    pub fn meets(&self, start: &[u8], end: Option<&[u8]>) -> bool {
        end.is_none_or(|end| self.lower.as_slice() < end)
            && self.upper.as_deref().is_none_or(|upper| start < upper)
    }
}

/// The smallest key after all those that start with `prefix`; `None` if there is none.
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=kept].to_vec();
    end[kept] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix() {
        let cases: [(&[u8], Option<&[u8]>); 5] = [
            (b"", None),
            (b"a", Some(b"b")),
            (b"a\xff", Some(b"b")),
            (b"\xff\xff", None),
            (b"ab", Some(b"ac")),
        ];
        for (prefix, end) in cases {
            assert_eq!(after_prefix(prefix).as_deref(), end);
        }
    }

    #[test]
    fn spans_know_what_they_hold() {
        let span = Span { lower: b"b".to_vec(), upper: Some(b"d".to_vec()) };
        assert_eq!(
            [b"a", b"b", b"c", b"d"].map(|key| span.contains(key)),
            [false, true, true, false]
        );
        assert!(span.meets(b"a", None) && span.meets(b"a", Some(b"c")) && span.meets(b"c", None));
        assert!(!span.meets(b"a", Some(b"b")) && !span.meets(b"d", None));
    }
}
