//! The payload: the bundle it comes in, the kernel's format, and where everything lies at the jump. All pure.
pub mod bundle;
mod fit;
pub mod gzip;
pub mod kernel;
pub mod place;
pub mod plan;
pub mod slot;
pub mod source;
pub mod zboot;
