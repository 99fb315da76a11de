//! Versions, features, sharing unit and the one shared window.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::buffer::{Area, BufferForm};
use super::{Call, RhiError, Status};
use crate::abi::rhi as abi;
use crate::addr::GRANULE_SIZE;
use crate::mutation::{Mutation, removed};
use crate::platform::{Io, IoWindow, Platform};
use crate::rsi::{self, HostCallBuf, SharedPages};
use abi::DaFeatures;

/// Largest sharing unit taken from the host, in bytes: what a host with 64 KiB pages needs.
const MAX_SHARING_UNIT: u64 = 64 * 1024;
/// Largest object that is fetched, in bytes: the window holds one whole object.
pub(super) const MAX_OBJECT_SIZE: u64 = 1024 * 1024;

/// Features that the flow needs: what Linux demands, and CONTINUE and ABORT are called only where a host needs them.
const NEEDED: DaFeatures = DaFeatures::OBJECT_SIZE
    .union(DaFeatures::OBJECT_READ)
    .union(DaFeatures::GET_MEASUREMENTS)
    .union(DaFeatures::GET_INTERFACE_REPORT)
    .union(DaFeatures::SET_TDI_STATE);

/// The negotiated interface and the window it moves data through.
#[derive(Debug)]
pub struct Session {
    features: DaFeatures,
    sharing_unit: u64,
    call: HostCallBuf,
    window: Option<Window>,
    form: BufferForm,
    /// The number that the host has the VCA under, as far as is known.
    vca: u64,
}

/// The pages that host and realm share, and the mapping of their alias.
#[derive(Debug)]
struct Window {
    pages: SharedPages,
    io: IoWindow,
}

impl Session {
    /// Negotiates DA and HOSTCONF, then converts the window.
    ///
    /// # Errors
    /// [`RhiError::Status`] with NotSupported where the host has no device assignment, [`RhiError::MissingFeatures`],
    /// [`RhiError::BadReply`] for a foreign version or an impossible unit, [`RhiError::Window`].
    pub fn negotiate<P: Platform>(platform: &mut P, rsi: &rsi::Session) -> Result<Self, RhiError> {
        let mut call = HostCallBuf::new()?;
        let mut ask = |platform: &mut P, what: Call| -> Result<u64, RhiError> {
            let gprs = [what.function_id(), 0, 0, 0, 0, 0];
            Ok(rsi::Client::new(platform, rsi).host_call(&mut call, gprs)?[0])
        };
        let version = ask(platform, Call::DaVersion)?;
        if version == abi::NOT_SUPPORTED {
            return Err(RhiError::Status { call: Call::DaVersion, status: Status::NotSupported });
        }
        if version >> 16 != abi::VERSION_1_0 >> 16 {
            return Err(RhiError::BadReply { call: Call::DaVersion, register: 0, value: version });
        }
        let mask = ask(platform, Call::DaFeatures)?;
        if mask == abi::NOT_SUPPORTED {
            return Err(RhiError::Status { call: Call::DaFeatures, status: Status::NotSupported });
        }
        // A later 1.x host may have more bits; they change nothing for us.
        let features = DaFeatures::from_bits_truncate(mask);
        if !features.contains(NEEDED) {
            return Err(RhiError::MissingFeatures(mask));
        }
        let sharing_unit = sharing_unit(|what| ask(platform, what))?;

        let (form, vca) = (BufferForm::default(), abi::OBJECT_VCA);
        let mut session = Self { features, sharing_unit, call, window: None, form, vca };
        session.open_window(platform, rsi)?;
        Ok(session)
    }

    fn open_window<P: Platform>(&mut self, platform: &mut P, rsi: &rsi::Session) -> Result<(), RhiError> {
        let len = Area::Object.offset().saturating_add(MAX_OBJECT_SIZE).next_multiple_of(self.sharing_unit);
        let pages = SharedPages::take(len / GRANULE_SIZE, self.sharing_unit)?;
        let shared = rsi::Client::new(platform, rsi).share(&pages).map_err(RhiError::from);
        match shared.and_then(|()| Ok(platform.map_shared(pages.range())?)) {
            Ok(io) => {
                self.window = Some(Window { pages, io });
                Ok(())
            }
            Err(error) => {
                // Some of the pages may be shared already.
                if let Err(leak) = rsi::Client::new(platform, rsi).unshare(&pages) {
                    crate::say::error!("leaked: the shared window: {leak}");
                }
                Err(error)
            }
        }
    }

    /// Converts the window back to private memory; its pages stay unused. Without effect when it is closed already.
    ///
    /// # Errors
    /// [`RhiError::Window`]: the pages stay shared; nothing private was ever in them.
    pub fn close_window<P: Platform>(
        &mut self,
        platform: &mut P,
        rsi: &rsi::Session,
    ) -> Result<(), RhiError> {
        let Some(Window { pages, io }) = self.window.take() else { return Ok(()) };
        if removed(Mutation::WindowReturned) {
            return Ok(());
        }
        let unshared = rsi::Client::new(platform, rsi).unshare(&pages).map_err(RhiError::from);
        let result = unshared.and_then(|()| Ok(platform.unmap_shared(io)?));
        if let Err(error) = &result
            && !removed(Mutation::WindowLeak)
        {
            crate::say::error!("leaked: the shared window: {error}");
        }
        result
    }

    /// Returns the features of the host's DA interface.
    #[must_use]
    pub fn features(&self) -> DaFeatures {
        self.features
    }

    /// Returns the unit in which the host converts memory, in bytes.
    #[must_use]
    pub fn sharing_unit(&self) -> u64 {
        self.sharing_unit
    }

    pub(super) fn call_buf(&mut self) -> &mut HostCallBuf {
        &mut self.call
    }

    /// Returns the address of `area` in the form that the host takes, as far as is known.
    pub(super) fn address(&self, area: Area, alias_bit: u64) -> Result<u64, RhiError> {
        let ipa = self.open()?.pages.range().base().saturating_add(area.offset());
        Ok(self.form.address(ipa, alias_bit))
    }

    /// Learns from the status of a call that passed a buffer; tells whether the address has another form now.
    pub(super) fn learn(&mut self, status: u64) -> bool {
        self.form.learn(status)
    }

    pub(super) fn vca(&self) -> u64 {
        self.vca
    }

    pub(super) fn set_vca(&mut self, number: u64) {
        self.vca = number;
    }

    pub(super) fn write_parameters<I: Io>(&self, io: &mut I, bytes: &[u8]) -> Result<(), RhiError> {
        Ok(io.copy_out(&self.open()?.io, Area::Parameters.offset(), bytes)?)
    }

    pub(super) fn read_object<I: Io>(&self, io: &mut I, to: &mut [u8]) -> Result<(), RhiError> {
        Ok(io.copy_in(&self.open()?.io, Area::Object.offset(), to)?)
    }

    fn open(&self) -> Result<&Window, RhiError> {
        self.window.as_ref().ok_or(RhiError::WindowClosed)
    }
}

/// Asks HOSTCONF for the unit of conversion; 4 KiB where the host does not say.
fn sharing_unit(mut ask: impl FnMut(Call) -> Result<u64, RhiError>) -> Result<u64, RhiError> {
    // A later 1.x keeps the call. Any other answer is no version that we know, all ones none at all.
    if ask(Call::HostconfVersion)? >> 16 != abi::VERSION_1_0 >> 16 {
        return Ok(GRANULE_SIZE);
    }
    let features = ask(Call::HostconfFeatures)?;
    if features == abi::NOT_SUPPORTED || features & abi::HOSTCONF_FEATURE_ALIGNMENT == 0 {
        return Ok(GRANULE_SIZE);
    }
    let call = Call::HostconfGetIpaChangeAlignment;
    let unit = ask(call)?;
    if !unit.is_power_of_two() || !(GRANULE_SIZE..=MAX_SHARING_UNIT).contains(&unit) {
        return Err(RhiError::BadReply { call, register: 0, value: unit });
    }
    Ok(unit)
}
