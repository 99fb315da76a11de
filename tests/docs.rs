//! What the documents say of the tests is true: each test that docs/threat-model.md and docs/handoff.md name is there.
use std::fs;
use std::path::Path;

const DOCUMENTS: [&str; 2] = ["docs/threat-model.md", "docs/handoff.md"];

fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default()
}

/// The parts of a document between back quotes.
fn quoted(document: &str) -> Vec<String> {
    text(document).split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn each_test_that_a_document_names_is_there() {
    let mut seen = 0;
    for document in DOCUMENTS {
        for name in quoted(document) {
            let Some((file, test)) = name.split_once("::") else { continue };
            let source = text(&format!("tests/{file}.rs"));
            let found = source.contains(&format!("fn {test}("));
            assert!(found, "{document}: tests/{file}.rs has no test {test}");
            seen += 1;
        }
    }
    assert!(seen > 20, "only {seen} tests are named");
}

#[test]
fn each_property_test_that_the_threat_model_names_is_there() {
    let names = quoted("docs/threat-model.md");
    let files: Vec<_> =
        names.iter().filter(|name| name.starts_with("prop_") && !name.contains(':')).collect();
    assert!(!files.is_empty());
    for file in files {
        assert!(text(&format!("tests/{file}.rs")).contains("proptest!"), "tests/{file}.rs");
    }
}

#[test]
fn each_boot_test_that_a_document_quotes_is_there() {
    let suite =
        ["cases", "several", "steps", "verified", "measured", "evidence", "machines", "debugger", "asked"];
    let suite: String =
        suite.iter().map(|file| text(&format!("tests/harness/src/suite/{file}.rs"))).collect();
    let mut seen = 0;
    for document in DOCUMENTS {
        let document = text(document).replace('\n', " ");
        for quote in document.split("boot test \"").skip(1) {
            let sentence = quote.split('"').next().unwrap_or_default();
            assert!(suite.contains(sentence), "no boot test {sentence:?}");
            seen += 1;
        }
    }
    assert!(seen > 0);
}
