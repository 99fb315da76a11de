//! Reads files of outside data, with messages that say which file is wrong, and what it is instead.

use crate::eventlog::EventLog;
use crate::filetype;
use crate::token::Token;
use std::error::Error;
use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::str::FromStr;

/// Bytes in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HexBytes(pub Vec<u8>);

impl FromStr for HexBytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let pair = |pair: &[u8; 2]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
        let (pairs, rest) = digits.as_chunks::<2>();
        let bytes: Option<Vec<u8>> = pairs.iter().map(pair).collect();
        match bytes {
            Some(bytes) if rest.is_empty() && !bytes.is_empty() => Ok(Self(bytes)),
            _ => Err("not an even number of hexadecimal digits".into()),
        }
    }
}

/// Reads a file.
///
/// # Errors
/// What the file system says, with the file's name.
pub fn read(path: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Makes the message about a file that is not what was `expected`: what it is instead, or what is wrong with it.
#[must_use]
pub fn wrong(path: &Path, bytes: &[u8], is_like: bool, expected: &str, error: &dyn Display) -> String {
    let path = path.display();
    if is_like {
        format!("{path}: {error}")
    } else {
        format!("{path}: this is {}, expected {expected}", filetype::describe(bytes))
    }
}

/// Reads an event log.
///
/// # Errors
/// Whatever is wrong, with the file's name.
pub fn event_log(path: &Path) -> Result<EventLog, Box<dyn Error>> {
    let bytes = read(path)?;
    EventLog::read(&bytes).map_err(|error| {
        wrong(path, &bytes, EventLog::is_like(&bytes), "an event log of the firmware", &error).into()
    })
}

/// Reads a token from its bytes.
///
/// # Errors
/// Whatever is wrong, with the file's name.
pub fn token<'a>(path: &Path, bytes: &'a [u8]) -> Result<Token<'a>, Box<dyn Error>> {
    Token::parse(bytes)
        .map_err(|error| wrong(path, bytes, Token::is_like(bytes), "a CCA attestation token", &error).into())
}
