//! How keys and values are typed and printed: escaped text, plain UTF-8, or hex.
//!
//! Escaped text is UTF-8 in which a backslash begins an escape:
//!
//! ```text
//! \\  backslash     \n  line feed     \r  carriage return     \t  tab     \0  zero byte
//! \xNN  the byte NN (two hex digits, either case)
//! ```
//!
//! Printing escapes what is not UTF-8, control characters, and characters that are invisible or turn the
//! direction of writing, byte by byte; all else stands for itself.
//!
//! Plain UTF-8 knows no escapes; what is not text, and control characters, are printed as U+FFFD, so it is
//! for reading and not for typing back.
//!
//! Invariants: what was printed, but for plain UTF-8, reads back as the same bytes; printed text holds no tab, no line break
//! and nothing that a terminal obeys.

use crate::failure::Failure;
use serde_json::{Map, Value};

/// How bytes are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Text in which \\n, \\xNN and their like stand for bytes
    Escaped,
    /// Text as it is, without escapes
    Utf8,
    /// Two hex digits for each byte
    Hex,
}

impl Form {
    /// Reads an argument; `what` names it in the message.
    pub fn read(self, what: &str, typed: &str) -> Result<Vec<u8>, Failure> {
        let (outcome, hint) = match self {
            Form::Escaped => (
                unescape(typed),
                "write a backslash as \\\\, other bytes as \\n \\r \\t \\0 or \\xNN, or use --keys hex",
            ),
            Form::Utf8 => (Ok(typed.as_bytes().to_vec()), ""),
            Form::Hex => (from_hex(typed), "--keys hex takes two hex digits for each byte"),
        };
        outcome.map_err(|fault| Failure::usage(format!("{what} {typed:?}: {fault}; {hint}")))
    }

    /// Shows bytes.
    pub fn show(self, bytes: &[u8]) -> String {
        match self {
            Form::Escaped => escape(bytes),
            Form::Utf8 => {
                let shown = |c| if is_shown(c) { c } else { char::REPLACEMENT_CHARACTER };
                String::from_utf8_lossy(bytes).chars().map(shown).collect()
            }
            Form::Hex => to_hex(bytes),
        }
    }

    /// Adds bytes to a JSON object: `name` if they are UTF-8, else (and always with `--keys hex`)
    /// `name_hex`.
    pub fn member(self, object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
        match std::str::from_utf8(bytes) {
            Ok(text) if self != Form::Hex => object.insert(name.to_owned(), text.into()),
            _ => object.insert(format!("{name}_hex"), to_hex(bytes).into()),
        };
    }
}

/// Bytes as escaped text.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                shown if is_shown(shown) => out.push(shown),
                hidden => {
                    let mut buffer = [0; 4];
                    push_bytes(&mut out, hidden.encode_utf8(&mut buffer).as_bytes());
                }
            }
        }
        push_bytes(&mut out, chunk.invalid());
    }
    out
}

/// The bytes that escaped text stands for.
pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let Some((&kind, after)) = rest.split_first() else {
            return Err("a backslash at the end".to_owned());
        };
        rest = after;
        out.push(match kind {
            b'\\' => b'\\',
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'0' => 0,
            b'x' => {
                let pair = rest.get(..2).and_then(hex_byte);
                rest = rest.get(2..).unwrap_or_default();
                pair.ok_or("\\x without two hex digits")?
            }
            _ => return Err("a backslash that begins no escape".to_owned()),
        });
    }
    Ok(out)
}

/// Bytes as hex, lower case.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    out
}

/// The bytes that hex stands for; both cases.
pub fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return Err("an odd number of hex digits".to_owned());
    }
    let pairs = digits.chunks_exact(2).map(hex_byte);
    pairs.collect::<Option<Vec<u8>>>().ok_or_else(|| "not a hex digit".to_owned())
}

fn hex_byte(pair: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    match pair {
        [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    }
}

fn push_bytes(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        out.push_str("\\x");
        out.push_str(&to_hex(&[*byte]));
    }
}

/// Neither a control character, nor invisible, nor one that turns the direction of writing.
fn is_shown(character: char) -> bool {
    !character.is_control()
        && !matches!(u32::from(character),
            0xad | 0x61c | 0x180e | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f
            | 0xfeff | 0xfff9..=0xfffb | 0xe0000..=0xe0fff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_as_documented() {
        let cases: [(&[u8], &str); 9] = [
            (b"", ""),
            (b"plain text", "plain text"),
            (b"a\\b", "a\\\\b"),
            (b"\n\r\t", "\\n\\r\\t"),
            (b"\0\x1b[31m", "\\x00\\x1b[31m"),
            ("höher 水 🌊".as_bytes(), "höher 水 🌊"),
            (b"\xff\xfeok\xc3", "\\xff\\xfeok\\xc3"),
            ("\u{202e}x".as_bytes(), "\\xe2\\x80\\xaex"),
            ("\u{85}".as_bytes(), "\\xc2\\x85"),
        ];
        for (bytes, text) in cases {
            assert_eq!(escape(bytes), text);
            assert_eq!(unescape(text).as_deref(), Ok(bytes));
        }
        assert_eq!(unescape("\\0\\xFf"), Ok(vec![0, 255]));
        for bad in ["\\", "\\q", "\\x", "\\x1", "\\xg0", "a\\x+1", "\\é"] {
            assert!(unescape(bad).is_err(), "{bad}");
        }
        for bad in ["1", "0g", "é", "+1"] {
            assert!(from_hex(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn any_bytes_survive_both_forms() {
        let mut state = 88_172_645_463_325_252_u64;
        for _ in 0..2000 {
            let mut bytes = Vec::new();
            loop {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let unit = state >> 32;
                if unit.is_multiple_of(9) {
                    break;
                }
                match char::from_u32((unit % 0x11_0000) as u32).filter(|_| unit.is_multiple_of(2)) {
                    Some(character) => bytes.extend(character.to_string().as_bytes()),
                    None => bytes.push(unit as u8),
                }
            }
            for form in [Form::Escaped, Form::Hex] {
                let shown = form.show(&bytes);
                assert_eq!(form.read("x", &shown).unwrap(), bytes, "{shown}");
                assert!(!shown.contains(['\n', '\r', '\t', '\u{1b}']));
            }
        }
    }
}
