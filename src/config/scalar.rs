//! The plain values of the `.conf` language: quoted, bare and block strings, numbers with size suffixes, booleans
//! and dates.
//!
//! ```text
//!   "a\tb"  'raw'  bare:4222  (        10  -3  64KB  1.5  true  on  2024-05-04T18:53:41Z  100%  $NAME
//!                             block
//!                             )
//! ```
//!
//! What a bare word is gets decided by its first character, as in the peer's language: a digit may begin a number, a
//! date, an address or a word (`10s`), everything else begins a word.

use super::cursor::{Cursor, is_blank, is_newline};
use super::lang::LangError;
use super::tree::Value;

/// A plain value, or the name after a `$`.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    Value(Value),
    Variable(String),
}

/// Reads the plain value that begins here. The caller has dealt with `[` and `{`.
pub fn read(cursor: &mut Cursor) -> Result<Scalar, LangError> {
    let value = match cursor.peek() {
        Some('\'') => single_quoted(cursor)?,
        Some('"') => double_quoted(cursor)?,
        Some('(') => block(cursor)?,
        Some('-') => negative(cursor)?,
        Some('.') => return Err(cursor.error("Floats must start with a digit")),
        Some(c) if c.is_ascii_digit() => digits(cursor)?,
        Some(c) if is_newline(c) => return Err(cursor.error_at_next(|_| "Expected value but found new line".into())),
        _ => return bare(cursor),
    };
    Ok(Scalar::Value(value))
}

fn single_quoted(cursor: &mut Cursor) -> Result<Value, LangError> {
    cursor.step();
    let text = cursor.take_while(|c| c != '\'');
    if !cursor.take('\'') {
        return Err(cursor.error("Unexpected EOF."));
    }
    Ok(Value::Text(text))
}

fn double_quoted(cursor: &mut Cursor) -> Result<Value, LangError> {
    cursor.step();
    let mut bytes = Vec::new();
    loop {
        match cursor.step() {
            None => return Err(cursor.error("Unexpected EOF.")),
            Some('"') => return utf8(cursor, bytes).map(Value::Text),
            Some('\\') => escape(cursor, &mut bytes)?,
            Some(c) => push(&mut bytes, c),
        }
    }
}

/// A word without quotes: it ends at a blank, a line's end, a separator or a closing bracket. A `'` ends it too.
fn bare(cursor: &mut Cursor) -> Result<Scalar, LangError> {
    let (word, plain) = word(cursor, Vec::new())?;
    if !plain {
        return Ok(Scalar::Value(Value::Text(word)));
    }
    Ok(match word.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" => Scalar::Value(Value::Bool(true)),
        "false" | "off" | "no" => Scalar::Value(Value::Bool(false)),
        _ => match word.strip_prefix('$') {
            Some(name) => Scalar::Variable(name.to_string()),
            None => Scalar::Value(Value::Text(word)),
        },
    })
}

/// `(`, text, and a `)` alone on its line.
fn block(cursor: &mut Cursor) -> Result<Value, LangError> {
    cursor.step();
    let mut text = String::new();
    loop {
        let Some(c) = cursor.step() else { return Err(cursor.error("Unexpected EOF processing block.")) };
        if c == ')' && text.ends_with('\n') && matches!(cursor.peek(), None | Some('\n')) {
            return Ok(Value::Text(text));
        }
        text.push(c);
    }
}

fn negative(cursor: &mut Cursor) -> Result<Value, LangError> {
    let from = cursor.mark();
    cursor.step();
    match cursor.peek() {
        Some('.') => return Err(cursor.error("Floats must start with a digit, not '.'.")),
        Some(c) if c.is_ascii_digit() => {}
        _ => return Err(cursor.error_at_next(|c| format!("Expected a digit but got '{c}'."))),
    }
    cursor.take_while(|c| c.is_ascii_digit());
    match cursor.peek() {
        Some('.') => float(cursor, from),
        Some(c) if size_suffix(c) => with_suffix(cursor, from),
        _ => integer(&cursor.since(from)),
    }
}

fn digits(cursor: &mut Cursor) -> Result<Value, LangError> {
    let from = cursor.mark();
    let run = cursor.take_while(|c| c.is_ascii_digit());
    match cursor.peek() {
        Some('-') if run.len() == 4 => date(cursor, from),
        Some('-') => Err(cursor.error("All ISO8601 dates must be in full Zulu form.")),
        Some('.') => float(cursor, from),
        Some(c) if size_suffix(c) => with_suffix(cursor, from),
        Some(c) if !ends_bare(c) => continue_word(cursor, run),
        _ => integer(&run),
    }
}

/// The word goes on with characters that no number has (`10s`, `100%`, `0xff`, `9a:4222`). Whatever follows, glued to
/// digits it is neither `true` nor a variable.
fn continue_word(cursor: &mut Cursor, begun: String) -> Result<Value, LangError> {
    word(cursor, begun.into_bytes()).map(|(word, _)| Value::Text(word))
}

/// Appends the bare word that begins here to `bytes`; false if it had an escape or a quote in it.
fn word(cursor: &mut Cursor, mut bytes: Vec<u8>) -> Result<(String, bool), LangError> {
    let mut plain = true;
    while let Some(c) = cursor.peek().filter(|&c| !ends_bare(c)) {
        cursor.step();
        match c {
            '\'' => return Ok((utf8(cursor, bytes)?, false)),
            '\\' => {
                plain = false;
                escape(cursor, &mut bytes)?;
            }
            c => push(&mut bytes, c),
        }
    }
    Ok((utf8(cursor, bytes)?, plain))
}

fn with_suffix(cursor: &mut Cursor, from: usize) -> Result<Value, LangError> {
    cursor.step();
    cursor.take_while(|c| matches!(c, 'b' | 'B' | 'i' | 'I'));
    let word = cursor.since(from);
    match cursor.peek() {
        Some(c) if !ends_bare(c) => continue_word(cursor, word),
        _ => integer(&word),
    }
}

fn integer(word: &str) -> Result<Value, LangError> {
    let split = word.find(|c: char| c != '-' && !c.is_ascii_digit()).unwrap_or(word.len());
    let (number, suffix) = word.split_at(split);
    let out_of_range = || LangError::new(format!("integer '{word}' is out of the range"));
    let number: i64 = number.parse().map_err(|_| out_of_range())?;
    let factor = match suffix.to_ascii_lowercase().as_str() {
        "" => 1,
        suffix => {
            let power = match suffix.as_bytes().first() {
                Some(b'k') => 1,
                Some(b'm') => 2,
                Some(b'g') => 3,
                Some(b't') => 4,
                Some(b'p') => 5,
                _ => 6,
            };
            match &suffix[1..] {
                "" => 1000_i64.pow(power),
                "b" | "i" | "ib" => 1024_i64.pow(power),
                _ => return Err(LangError::new(format!("expected integer, but got '{word}'"))),
            }
        }
    };
    number.checked_mul(factor).map(Value::Int).ok_or_else(out_of_range)
}

/// A fraction; a second dot makes it an address.
fn float(cursor: &mut Cursor, from: usize) -> Result<Value, LangError> {
    cursor.step();
    if !cursor.peek().is_some_and(|c| c.is_ascii_digit()) {
        return Err(cursor.error_at_next(|c| format!("Floats must have a digit after the '.', but got '{c}' instead.")));
    }
    cursor.take_while(|c| c.is_ascii_digit());
    if cursor.peek() == Some('.') {
        cursor.take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':' | '-'));
        return Ok(Value::Text(cursor.since(from)));
    }
    let word = cursor.since(from);
    match word.parse::<f64>() {
        Ok(x) if x.is_finite() => Ok(Value::Float(x)),
        _ => Err(LangError::new(format!("float '{word}' is out of the range"))),
    }
}

/// `YYYY-` has been seen; the rest must be a full UTC date and time.
fn date(cursor: &mut Cursor, from: usize) -> Result<Value, LangError> {
    for wanted in "-00-00T00:00:00Z".chars() {
        let fits = |c: char| if wanted == '0' { c.is_ascii_digit() } else { c == wanted };
        if !cursor.peek().is_some_and(fits) {
            let what = if wanted == '0' { "digit".to_string() } else { format!("'{wanted}'") };
            return Err(
                cursor.error_at_next(|c| format!("Expected {what} in ISO8601 datetime, but found '{c}' instead."))
            );
        }
        cursor.step();
    }
    let word = cursor.since(from);
    match word.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(Value::Date(time.as_second())),
        Err(_) => Err(LangError::new(format!("expected Zulu formatted DateTime, but got '{word}'"))),
    }
}

/// The `\` has been taken.
fn escape(cursor: &mut Cursor, bytes: &mut Vec<u8>) -> Result<(), LangError> {
    let byte = match cursor.step() {
        Some('x') => return hex(cursor, bytes),
        Some('t') => b'\t',
        Some('n') => b'\n',
        Some('r') => b'\r',
        Some('"') => b'"',
        Some('\\') => b'\\',
        other => {
            let shown = other.map(|c| c.escape_default().to_string()).unwrap_or_default();
            return Err(cursor.error(format!(
                "Invalid escape character '{shown}'. Only the following escape characters are allowed: \\xXX, \\t, \\n, \
                 \\r, \\\", \\\\."
            )));
        }
    };
    bytes.push(byte);
    Ok(())
}

fn hex(cursor: &mut Cursor, bytes: &mut Vec<u8>) -> Result<(), LangError> {
    let mut digits = String::new();
    for _ in 0..2 {
        match cursor.step() {
            None | Some('\n' | '\r') => {
                return Err(cursor.error("Expected two hexadecimal digits after '\\x', but hit end of line"));
            }
            Some(c) => digits.push(c),
        }
    }
    match u8::from_str_radix(&digits, 16) {
        Ok(byte) if !digits.starts_with('+') => bytes.push(byte),
        _ => return Err(cursor.error(format!("Expected two hexadecimal digits after '\\x', but got '{digits}'"))),
    }
    Ok(())
}

fn utf8(cursor: &Cursor, bytes: Vec<u8>) -> Result<String, LangError> {
    String::from_utf8(bytes).map_err(|_| cursor.error("the \\x escapes of this text are not UTF-8"))
}

fn push(bytes: &mut Vec<u8>, c: char) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn ends_bare(c: char) -> bool {
    is_newline(c) || is_blank(c) || matches!(c, ';' | ',' | ']' | '}')
}

fn size_suffix(c: char) -> bool {
    matches!(c.to_ascii_lowercase(), 'k' | 'm' | 'g' | 't' | 'p' | 'e')
}
