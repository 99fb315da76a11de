//! Where the project says `unsafe`: a count for each file, held against a list that people read (scripts/check).
//!
//! Only the machine layer, the one caller of the conduit, the bare-metal programs of the bench, the allocator of the test of
//! exhausted memory and the counters of the fuzzer may have any.

use crate::Fault;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Folders with Rust code of ours.
const ROOTS: [&str; 4] = ["build.rs", "src", "tests", "tools"];
/// Folders that are not searched.
const SKIPPED: [&str; 2] = ["target", "data"];
/// Where it may stand.
const ALLOWED: [&str; 7] = [
    "src/arch/",
    "src/conduit.rs",
    "src/rsi/invoke.rs",
    "tests/fuzz/coverage.rs",
    "tests/heap.rs",
    "tests/stub-rmm/src/",
    "tests/payload/src/",
];

/// How often the keyword stands in each file that has it, by path from the root.
pub type Counts = BTreeMap<String, usize>;

/// Counts the keyword `unsafe` in a file's text; comments and attributes of lints (`unsafe_code`) do not count.
#[must_use]
pub fn count(text: &str) -> usize {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.flat_map(|line| line.split(|c| !is_word(c))).filter(|word| *word == KEYWORD).count()
}

/// In two parts, or this file would have it.
const KEYWORD: &str = concat!("un", "safe");

/// Counts in all files of the repository.
///
/// # Errors
/// [`Fault::File`].
pub fn find(root: &Path) -> Result<Counts, Fault> {
    let mut counts = Counts::new();
    for path in ROOTS {
        search(root, &root.join(path), &mut counts)?;
    }
    Ok(counts)
}

fn search(root: &Path, path: &Path, counts: &mut Counts) -> Result<(), Fault> {
    if path.is_dir() {
        if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| SKIPPED.contains(&name)) {
            return Ok(());
        }
        for entry in fs::read_dir(path).map_err(Fault::file(path))? {
            search(root, &entry.map_err(Fault::file(path))?.path(), counts)?;
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        let found = count(&fs::read_to_string(path).map_err(Fault::file(path))?);
        if found > 0 {
            let name = path.strip_prefix(root).unwrap_or(path).display().to_string();
            counts.insert(name, found);
        }
    }
    Ok(())
}

/// What is wrong with counts: a file that may have none, or a list that says something else.
#[must_use]
pub fn judge(counts: &Counts, listed: &str) -> Vec<String> {
    let forbidden = counts.keys().filter(|name| !ALLOWED.iter().any(|allowed| name.starts_with(allowed)));
    let mut wrong: Vec<String> = forbidden.map(|name| format!("{name} may have no {KEYWORD} code")).collect();
    if rendered(counts) != listed {
        let listed: BTreeMap<&str, &str> = listed
            .lines()
            .filter_map(|line| line.trim().split_once(' ').map(|(count, name)| (name, count)))
            .collect();
        for (name, count) in counts {
            let before = listed.get(name.as_str()).copied().unwrap_or("0");
            if before != count.to_string() {
                wrong.push(format!("{name}: {count}, the list says {before}"));
            }
        }
        let gone = listed.keys().filter(|name| !counts.contains_key(**name));
        wrong.extend(gone.map(|name| format!("{name}: none any more")));
        wrong
            .push(format!("look at each new {KEYWORD}, then write the list anew with scripts/check --bless"));
    }
    wrong
}

/// The list as it is written.
#[must_use]
pub fn rendered(counts: &Counts) -> String {
    counts.iter().map(|(name, count)| format!("{count:>4} {name}\n")).collect()
}

/// Prints the list and holds it against `record`; `bless` writes the record anew.
///
/// # Errors
/// [`Fault::Run`] with what is wrong, [`Fault::File`].
pub fn command(root: &Path, record: &Path, bless: bool) -> Result<(), Fault> {
    let counts = find(root)?;
    print!("{}", rendered(&counts));
    println!("{:>4} times {KEYWORD} in {} files", counts.values().sum::<usize>(), counts.len());
    if bless {
        fs::write(record, rendered(&counts)).map_err(Fault::file(record))?;
    }
    let wrong = judge(&counts, &fs::read_to_string(record).map_err(Fault::file(record))?);
    if wrong.is_empty() { Ok(()) } else { Err(Fault::Run(wrong.join("\n"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        text.replace("@", KEYWORD)
    }

    #[test]
    fn the_keyword_counts_and_words_and_comments_that_hold_it_do_not() {
        assert_eq!(count(&code("@ fn f() { @ { g() } }\n#[@(naked)]")), 3);
        assert_eq!(count(&code("#![deny(@_code)] // @\n/// @ things\nlet not_@ = 1;")), 0);
    }

    #[test]
    fn a_new_site_and_a_site_at_the_wrong_place_are_refused() {
        let counts = |list: &[(&str, usize)]| {
            list.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect::<Counts>()
        };
        let good = counts(&[("src/arch/a.rs", 2), ("src/rsi/invoke.rs", 1)]);
        assert_eq!(judge(&good, &rendered(&good)), Vec::<String>::new());
        let more = counts(&[("src/arch/a.rs", 3), ("src/arch/b.rs", 1)]);
        let wrong = judge(&more, &rendered(&good)).join("\n");
        for text in [
            "src/arch/a.rs: 3, the list says 2",
            "src/arch/b.rs: 1, the list says 0",
            "invoke.rs: none any more",
        ] {
            assert!(wrong.contains(text), "{wrong}");
        }
        let elsewhere = counts(&[("src/policy/a.rs", 1)]);
        assert!(judge(&elsewhere, &rendered(&elsewhere)).join("").contains("may have no"));
    }

    #[test]
    fn the_list_of_the_repository_is_that_of_the_code() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let listed = fs::read_to_string(root.join(format!("docs/{KEYWORD}.txt"))).unwrap();
        assert_eq!(judge(&find(&root).unwrap(), &listed), Vec::<String>::new());
    }
}
