//! The TOML form of policies.
#[path = "../../../tests/common/policies.rs"]
mod policies;

use gatehouse_cli::policy::toml::{parse, print};
use policies::policies;
use proptest::prelude::*;
use std::path::Path;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_printed_reads_as_the_same_policy(policy in policies()) {
        let text = print(&policy);
        prop_assert_eq!(parse(&text, Path::new("")), Ok(policy), "{}", text);
    }
}
