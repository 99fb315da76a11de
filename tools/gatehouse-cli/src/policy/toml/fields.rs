//! Tables and values of a TOML text that know their line and name.
use super::TomlError;
use super::words::{self, Words};
use std::str::FromStr;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml::value::Datetime;

/// Returns the number of the line with this byte, from 1.
pub fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// A table; what is taken out of it is known, what is left at its end is not.
pub struct Table<'t> {
    text: &'t str,
    table: DeTable<'t>,
    /// Name in messages; empty for the text as a whole.
    path: String,
    line: usize,
    known: Vec<&'static str>,
}

/// A value of a table or list.
pub struct Value<'t> {
    text: &'t str,
    value: DeValue<'t>,
    /// Name in messages.
    pub path: String,
    /// Line where it starts.
    pub line: usize,
}

impl<'t> Table<'t> {
    /// Reads a whole text.
    pub fn read(text: &'t str) -> Result<Self, TomlError> {
        let table = DeTable::parse(text).map_err(|error| TomlError {
            line: line_at(text, error.span().map_or(0, |span| span.start)),
            field: String::new(),
            what: error.message().into(),
        })?;
        Ok(Self { text, table: table.into_inner(), path: String::new(), line: 1, known: Vec::new() })
    }

    /// Takes a field.
    pub fn take(&mut self, name: &'static str) -> Option<Value<'t>> {
        self.known.push(name);
        let (key, value) = self.table.remove_entry(name)?;
        let dot = if self.path.is_empty() { "" } else { "." };
        let path = format!("{}{dot}{name}", self.path);
        Some(Value {
            text: self.text,
            value: value.into_inner(),
            path,
            line: line_at(self.text, key.span().start),
        })
    }

    /// Takes a field that must be there.
    pub fn need(&mut self, name: &'static str) -> Result<Value<'t>, TomlError> {
        self.take(name).ok_or_else(|| self.wrong(name, "is missing"))
    }

    /// Makes an error of a field that is not there.
    pub fn wrong(&self, name: &str, what: impl Into<String>) -> TomlError {
        let dot = if self.path.is_empty() { "" } else { "." };
        TomlError { line: self.line, field: format!("{}{dot}{name}", self.path), what: what.into() }
    }

    /// Takes the values of a field that may be written as one value or as a list under its plural.
    pub fn take_both(&mut self, one: &'static str, many: &'static str) -> Result<Vec<Value<'t>>, TomlError> {
        match (self.take(one), self.take(many)) {
            (Some(_), Some(value)) => Err(value.wrong(format!("{one} stands there already"))),
            (Some(value), None) => Ok(vec![value]),
            (None, Some(value)) => value.list(),
            (None, None) => Ok(Vec::new()),
        }
    }

    /// Ends the table: what is left is not known.
    pub fn end(self) -> Result<(), TomlError> {
        match self.table.iter().next() {
            None => Ok(()),
            Some((key, _)) => Err(TomlError {
                line: line_at(self.text, key.span().start),
                ..self.wrong(key.get_ref(), format!("no such field; there are {}", self.known.join(", ")))
            }),
        }
    }
}

impl<'t> Value<'t> {
    /// Makes an error of this value.
    pub fn wrong(&self, what: impl Into<String>) -> TomlError {
        TomlError { line: self.line, field: self.path.clone(), what: what.into() }
    }

    /// Tells whether it is a text.
    pub fn is_string(&self) -> bool {
        self.value.is_str()
    }

    /// Returns the text.
    pub fn string(&self) -> Result<&str, TomlError> {
        self.value
            .as_str()
            .ok_or_else(|| self.wrong(format!("a text is needed, not {}", self.value.type_str())))
    }

    /// Returns the yes or no.
    pub fn bool(&self) -> Result<bool, TomlError> {
        self.value.as_bool().ok_or_else(|| self.wrong("true or false is needed"))
    }

    /// Returns the number, at most `most`.
    pub fn number(&self, most: u64) -> Result<u64, TomlError> {
        self.value
            .as_integer()
            .and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok())
            .filter(|number| *number <= most)
            .ok_or_else(|| self.wrong(format!("a number from 0 to {most} ({most:#x}) is needed")))
    }

    /// Returns the number as the type that holds it.
    pub fn number_as<T>(&self, most: T) -> Result<T, TomlError>
    where
        T: TryFrom<u64> + Into<u64>,
    {
        let number = self.number(most.into())?;
        T::try_from(number).map_err(|_| self.wrong("is too large"))
    }

    /// Returns what the word means.
    pub fn word<T: Copy>(&self, all: Words<T>) -> Result<T, TomlError> {
        let word = self.string()?;
        words::meaning(all, word)
            .ok_or_else(|| self.wrong(format!("{word:?} is none of {}", words::list(all))))
    }

    /// Returns what the text stands for.
    pub fn parse<T: FromStr<Err: std::fmt::Display>>(&self) -> Result<T, TomlError> {
        let text = self.string()?;
        text.parse().map_err(|error| self.wrong(format!("{text:?}: {error}")))
    }

    /// Returns the bytes of hexadecimal digits; colons between bytes are allowed.
    pub fn hex(&self) -> Result<Vec<u8>, TomlError> {
        let text = self.string()?;
        let digits: Vec<_> = text.chars().filter(|c| *c != ':').map(|c| c.to_digit(16)).collect();
        let bytes = digits.chunks(2).map(|pair| match pair {
            [Some(high), Some(low)] => u8::try_from(high << 4 | low).ok(),
            _ => None,
        });
        bytes
            .collect::<Option<_>>()
            .ok_or_else(|| self.wrong(format!("{text:?} is not pairs of hexadecimal digits")))
    }

    /// Returns date or time.
    pub fn datetime(&self) -> Result<&Datetime, TomlError> {
        self.value.as_datetime().ok_or_else(|| self.wrong("a date is needed, without quotes"))
    }

    /// Returns the entries of a list.
    pub fn list(self) -> Result<Vec<Value<'t>>, TomlError> {
        let Self { text, path, line, value } = self;
        let DeValue::Array(array) = value else {
            let what = format!("a list is needed, not {}", value.type_str());
            return Err(TomlError { line, field: path, what });
        };
        let entry = |entry: Spanned<DeValue<'t>>| {
            let line = line_at(text, entry.span().start);
            Value { text, line, path: path.clone(), value: entry.into_inner() }
        };
        Ok(array.into_iter().map(entry).collect())
    }

    /// Returns the table.
    pub fn table(self) -> Result<Table<'t>, TomlError> {
        let Self { text, path, line, value } = self;
        match value {
            DeValue::Table(table) => Ok(Table { text, table, path, line, known: Vec::new() }),
            other => {
                let what = format!("a table is needed, not {}", other.type_str());
                Err(TomlError { line, field: path, what })
            }
        }
    }
}

/// Finds the line of a field for a message about the policy as a whole (`rule`: `None`) or about one rule. Where the
/// field is not written, its table starts.
pub fn line_of(text: &str, rule: Option<usize>, field: &str) -> usize {
    let Ok(root) = DeTable::parse(text) else { return 1 };
    let mut root = root.into_inner();
    let rules = root.remove("rule");
    let Some(rule) = rule else {
        if field == "rule" {
            return rules.map_or(1, |rules| line_at(text, rules.span().start));
        }
        return find(&root, field).map_or(1, |offset| line_at(text, offset));
    };
    let entry = rules.as_ref().and_then(|rules| rules.get_ref().as_array()?.get(rule));
    let Some(entry) = entry else { return 1 };
    let field = entry.get_ref().as_table().and_then(|table| find(table, field));
    line_at(text, field.unwrap_or(entry.span().start))
}

/// Finds the offset of a field in a table or in those within.
fn find(table: &DeTable<'_>, field: &str) -> Option<usize> {
    let same = |key: &str| key.trim_end_matches('s') == field.trim_end_matches('s');
    let here = table.iter().find(|(key, _)| same(key.get_ref())).map(|(key, _)| key.span().start);
    let within = |value: &DeValue<'_>| match value {
        DeValue::Table(table) => find(table, field),
        DeValue::Array(array) => array.iter().find_map(|entry| find(entry.get_ref().as_table()?, field)),
        _ => None,
    };
    here.or_else(|| table.iter().find_map(|(_, value)| within(value.get_ref())))
}
