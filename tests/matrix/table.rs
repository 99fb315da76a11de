//! The table: Markdown for readers, JSON for programs.

use crate::cases::Class;
use crate::runner::{Counts, Key};
use crate::scenes::Scene;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

const BEGIN: &str = "<!-- begin of the table: scripts/test --matrix --write -->\n";
const END: &str = "<!-- end of the table -->\n";

/// The counts as JSON: one object a line.
pub fn json(table: &BTreeMap<Key, Counts>) -> String {
    let mut text = String::from("[\n");
    for (index, ((scene, place, class), counts)) in table.iter().enumerate() {
        let Counts { cases, boots, stops, leaking, dies, trusted, violations, same, .. } = counts;
        let comma = if index + 1 < table.len() { "," } else { "" };
        let _written = writeln!(
            text,
            "{{\"scene\":\"{scene}\",\"place\":\"{place}\",\"class\":\"{}\",\"cases\":{cases},\"boots\":{boots},\
             \"stops\":{stops},\"leaking\":{leaking},\"dies\":{dies},\"trusted\":{trusted},\
             \"violations\":{violations},\"truth\":{same}}}{comma}",
            class.name()
        );
    }
    text + "]\n"
}

fn row(text: &mut String, first: &str, counts: &Counts) {
    let Counts { cases, trusted, boots, stops, leaking, dies, violations, .. } = counts;
    let host = cases - trusted;
    let _written = writeln!(
        text,
        "| {first} | {cases} | {host} | {trusted} | {boots} | {stops} | {leaking} | {dies} | {violations} |"
    );
}

const ENDS: &str = "cases | of host or device | of who is believed | payload starts | stops | stops, leak named | realm dies | violations |\n\
    |---|---|---|---|---|---|---|---|---|\n";

/// The tables of docs/assurance.md.
pub fn markdown(scenes: &[(&Scene, Counts)], table: &BTreeMap<Key, Counts>, sum: &Counts) -> String {
    let mut text = format!("\nBy scene:\n\n| scene | {ENDS}");
    for (scene, counts) in scenes {
        row(&mut text, &format!("{}: {}", scene.name, scene.what), counts);
    }
    row(&mut text, "**all**", sum);
    let _written = write!(text, "\nBy the way in which it lies:\n\n| class | {ENDS}");
    for class in Class::ALL {
        let mut counts = Counts::default();
        table.iter().filter(|(key, _)| key.2 == class).for_each(|(_, more)| counts.add(more));
        if counts.cases > 0 {
            row(&mut text, class.name(), &counts);
        }
    }
    let used: Vec<Class> =
        Class::ALL.into_iter().filter(|class| table.keys().any(|key| key.2 == *class)).collect();
    text.push_str("\nCases by place and class:\n\n| place |");
    used.iter().for_each(|class| text = format!("{text} {} |", class.name()));
    text.push_str("\n|---|");
    used.iter().for_each(|_| text.push_str("---|"));
    text.push('\n');
    let places: BTreeSet<&String> = table.keys().map(|key| &key.1).collect();
    for place in places {
        let _written = write!(text, "| {place} |");
        for class in &used {
            let keys = table.iter().filter(|(key, _)| key.1 == *place && key.2 == *class);
            let cases: u32 = keys.map(|(_, counts)| counts.cases).sum();
            let _written = match cases {
                0 => write!(text, " – |"),
                cases => write!(text, " {cases} |"),
            };
        }
        text.push('\n');
    }
    text.push('\n');
    text
}

/// Puts the tables between their marks, or compares them with what is there.
pub fn put(path: &Path, tables: &str, write: bool) -> Result<(), String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let missing = || "has no marks for the table".to_owned();
    let (before, rest) = text.split_once(BEGIN).ok_or_else(missing)?;
    let (old, after) = rest.split_once(END).ok_or_else(missing)?;
    if write {
        return fs::write(path, format!("{before}{BEGIN}{tables}{END}{after}"))
            .map_err(|error| error.to_string());
    }
    if old == tables {
        return Ok(());
    }
    let differs = tables.lines().zip(old.lines()).find(|(new, old)| new != old);
    Err(format!("another table than this run comes to; first line that differs: {differs:?}"))
}
