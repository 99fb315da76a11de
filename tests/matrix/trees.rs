//! The VMM's tree, one 32-bit cell at a time.

use crate::cases::{Case, Class, What};
use crate::common::image;
use crate::judge::Liar;
use std::sync::OnceLock;

/// Longest property of which every cell is lied about; of longer ones the first cells.
const CELLS_MAX: usize = 64;

/// Returns the tree that every case changes.
pub fn honest() -> &'static [u8] {
    static TREE: OnceLock<Vec<u8>> = OnceLock::new();
    TREE.get_or_init(|| image::tree(|_| {}))
}

/// Returns the tree with a cell changed.
pub fn changed(at: usize, value: u32) -> Vec<u8> {
    let mut bytes = honest().to_vec();
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    bytes
}

fn cell(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

/// Each cell: where it stands in the table, and its first byte.
fn cells(bytes: &[u8]) -> Vec<(String, usize)> {
    let mut found: Vec<_> = (0..10).map(|index| ("tree: header".to_owned(), 4 * index)).collect();
    let mut at = cell(bytes, 8) as usize;
    let mut names: Vec<String> = Vec::new();
    loop {
        let token = at;
        at += 4;
        match cell(bytes, token) {
            1 => {
                let len = bytes[at..].iter().position(|byte| *byte == 0).unwrap_or(0);
                let name = String::from_utf8_lossy(&bytes[at..at + len]).into_owned();
                names.push(name.split('@').next().unwrap_or("").to_owned());
                at = (at + len + 4) & !3;
            }
            2 => drop(names.pop()),
            3 => {
                let len = cell(bytes, at) as usize;
                let place = format!("tree: /{}", names.get(1).map_or("", String::as_str));
                // The length of the property, its name, then its cells.
                found.extend([(place.clone(), at), (place.clone(), at + 4)]);
                let num = (len / 4).min(CELLS_MAX);
                found.extend((0..num).map(|index| (place.clone(), at + 8 + 4 * index)));
                at = (at + 8 + len + 3) & !3;
            }
            4 => {}
            _ => return found,
        }
    }
}

/// Adds a case for each cell and each way in which it can lie.
pub fn cases(cases: &mut Vec<Case>) {
    let bytes = honest();
    for (place, at) in cells(bytes) {
        let truth = cell(bytes, at);
        let mut values = vec![
            0,
            1,
            u32::MAX,
            truth ^ 1,
            truth ^ 0x8000_0000,
            truth.wrapping_add(0x1000),
            truth.swap_bytes(),
        ];
        values.sort_unstable();
        values.dedup();
        for value in values.into_iter().filter(|value| *value != truth) {
            let what = What::Cell { at, value };
            cases.push(Case { place: place.clone(), class: Class::Tree, liar: Liar::Host, what });
        }
    }
}
