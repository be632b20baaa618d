//! A place in the text of one configuration file, and the smallest steps through it.

use std::sync::Arc;

use super::lang::LangError;
use super::place::Place;

/// Reads characters one by one and knows the line.
pub struct Cursor {
    chars: Vec<char>,
    at: usize,
    line: u32,
    line_start: usize,
    file: Arc<str>,
}

impl Cursor {
    /// Errors: bytes that are no UTF-8, and NUL, which no editor writes.
    pub fn new(bytes: &[u8], file: Arc<str>) -> Result<Cursor, LangError> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| line_error(bytes, error.valid_up_to(), "the text is not UTF-8 here"))?;
        if let Some(at) = text.find('\0') {
            return Err(line_error(bytes, at, "Unexpected NUL byte"));
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Ok(Cursor { chars: text.chars().collect(), at: 0, line: 1, line_start: 0, file })
    }

    pub fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    pub fn peek_second(&self) -> Option<char> {
        self.chars.get(self.at + 1).copied()
    }

    pub fn step(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        if c == '\n' {
            self.line += 1;
            self.line_start = self.at;
        }
        Some(c)
    }

    /// Takes the next character if it is that one.
    pub fn take(&mut self, wanted: char) -> bool {
        let hit = self.peek() == Some(wanted);
        if hit {
            self.step();
        }
        hit
    }

    /// Takes characters as long as they fit.
    pub fn take_while(&mut self, fits: impl Fn(char) -> bool) -> String {
        let from = self.at;
        while self.peek().is_some_and(&fits) {
            self.step();
        }
        self.chars[from..self.at].iter().collect()
    }

    /// What was read since `from`, a value of `mark`.
    pub fn since(&self, from: usize) -> String {
        self.chars[from..self.at].iter().collect()
    }

    pub fn mark(&self) -> usize {
        self.at
    }

    pub fn place(&self) -> Place {
        let col = (self.at - self.line_start + 1) as u32;
        Place { file: self.file.clone(), line: self.line, col }
    }

    pub fn line(&self) -> u32 {
        self.line
    }

    /// Skips blanks, tabs and new lines.
    pub fn skip_space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.step();
        }
    }

    /// Skips blanks and tabs only.
    pub fn skip_blanks(&mut self) {
        while self.peek().is_some_and(is_blank) {
            self.step();
        }
    }

    /// Skips a comment up to the end of its line, if one begins here.
    pub fn skip_comment(&mut self) -> bool {
        let begins = self.peek() == Some('#') || (self.peek() == Some('/') && self.peek_second() == Some('/'));
        if begins {
            while self.peek().is_some_and(|c| !is_newline(c)) {
                self.step();
            }
        }
        begins
    }

    /// An error on the line reached so far.
    pub fn error(&self, text: impl AsRef<str>) -> LangError {
        LangError::on_line(self.line, text.as_ref())
    }

    /// As `error`, after taking the character that is at fault; an end of line at fault counts as the next line
    /// then, as with the peer. `text` gets the character's shown form.
    pub fn error_at_next(&mut self, text: impl Fn(&str) -> String) -> LangError {
        let shown = match self.step() {
            None => String::new(),
            Some('\n') => "\\n".to_string(),
            Some(c) => c.to_string(),
        };
        self.error(text(&shown))
    }
}

pub fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

pub fn is_newline(c: char) -> bool {
    c == '\n' || c == '\r'
}

fn line_error(bytes: &[u8], at: usize, text: &str) -> LangError {
    let line = 1 + bytes.iter().take(at).filter(|&&byte| byte == b'\n').count();
    LangError::on_line(line as u32, text)
}
