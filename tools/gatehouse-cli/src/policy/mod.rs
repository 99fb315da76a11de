//! Policies for people: the TOML form, what it means in sentences, and drafts of it. docs/policy.md is the reader's side.
pub mod toml;
