//! Why a run has no result.

use thiserror::Error;

/// A run that did not come to a result.
#[derive(Debug, Error)]
pub enum Fault {
    /// Something that a run needs is not there: exit status 3.
    #[error("not possible here: {0}")]
    NotPossible(String),
    /// The run went wrong: exit status 1.
    #[error("{0}")]
    Run(String),
    /// A file could not be read or written: exit status 1.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// What was asked for makes no sense: exit status 2.
    #[error("{0}")]
    Usage(String),
}

impl Fault {
    /// Adds the path to an error of the file system.
    pub fn file(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Fault {
        let path = path.display().to_string();
        move |error| Fault::File { path, error }
    }

    /// Returns the exit status of scripts/run.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Fault::NotPossible(_) => 3,
            Fault::Usage(_) => 2,
            Fault::Run(_) | Fault::File { .. } => 1,
        }
    }
}
