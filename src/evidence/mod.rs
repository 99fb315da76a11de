//! Evidence: the four objects of a device, compared with what the RMM vouches for; the certificate chain and the
//! interface report.
//!
//! Trust: the objects come from the host; they count only after their digest matched. Pure functions of bytes.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

mod algorithm;
mod asn1;
mod chain;
mod chain_error;
mod digest;
mod exchange;
mod extensions;
mod key;
mod measurement;
mod name;
mod report;
mod validity;
mod vca;
mod x509;

pub use chain::{Chain, MAX_CERTIFICATES, MAX_CHAIN_BYTES, Trust};
pub use chain_error::{ChainError, Part};
pub use digest::{DigestError, Evidence, Objects, vouched};
pub use exchange::{ContentChanged, Exchange, ExchangeError, ExchangeMessage, MAX_RECORD_BYTES};
pub use extensions::{KeyUsage, MAX_EXTENSIONS};
pub use key::{Encoding, KeyError, KeyKind, MAX_RSA_BITS, MIN_RSA_BITS, PublicKey, Scheme, SignatureError};
pub use measurement::{BadDeviceMode, Block, BlockError, DeviceMode, MeasurementError, check_references};
pub use report::{FlagError, InterfaceReport, ReportError, ReportedRange, check_flags};
pub use vca::{AsymAlgorithm, Choice, SpdmVersion, Vca, VcaError, VcaMessage};
pub use x509::{Certificate, MAX_CERTIFICATE_BYTES, MAX_NAME_BYTES};
