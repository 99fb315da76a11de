//! docs/codes.md is what the code says.

use gatehouse::codes::StopCode;
use std::fmt::Write;

fn rendered() -> String {
    let mut text = String::from(
        "# Stop codes\n\nThe firmware stops with one of these: on the console as `stop GH-nnnn`, and in x1 of PSCI SYSTEM_OFF, where the\n\
         VMM or RMM side can log it even when there is no console. The thousands digit is the phase; 9 is the machine layer.\n\n\
         | code | meaning |\n|---|---|\n",
    );
    for code in StopCode::ALL {
        writeln!(text, "| {code} | {} |", code.text()).unwrap();
    }
    text
}

/// Run with `GATEHOUSE_BLESS=1` to write the file after a change of the table.
#[test]
fn the_documented_stop_codes_are_the_ones_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/codes.md");
    if std::env::var_os("GATEHOUSE_BLESS").is_some() {
        std::fs::write(path, rendered()).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), rendered());
}

#[test]
fn stop_codes_are_four_digits_ascending_and_unique() {
    let numbers: Vec<_> = StopCode::ALL.iter().map(|code| code.number()).collect();
    assert!(numbers.iter().all(|number| (1000..=9999).contains(number)));
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}
