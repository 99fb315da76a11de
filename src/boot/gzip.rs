//! Inflates a gzip file piece by piece into memory that is as long as the result may be (RFC 1951, RFC 1952).
//!
//! Trust: none yet. The pieces are inflated while they are hashed, so the file may be anything; whoever calls uses neither
//! result nor error before the hash matched. Time is bounded by the lengths of file and memory. The CRC-32 is not
//! computed: the digest of the file covers the same mistakes and more (`gatehouse pack` compares it).
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use alloc::vec::Vec;
use core::ops::Range;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use thiserror::Error;

/// What a gzip file begins with.
pub const MAGIC: [u8; 2] = *b"\x1f\x8b";
/// The only method there is: deflate.
const DEFLATE: u8 = 8;
/// Bytes of the header in front of its optional fields.
const FIXED: usize = 10;
/// Flag: a CRC-16 of the header.
const FHCRC: u8 = 1 << 1;
/// Flag: a field of extra data with its length.
const FEXTRA: u8 = 1 << 2;
/// Flag: a file name, NUL-terminated.
const FNAME: u8 = 1 << 3;
/// Flag: a comment, NUL-terminated.
const FCOMMENT: u8 = 1 << 4;
/// Flags that must be zero.
const RESERVED: u8 = 0b1110_0000;

/// Why a gzip file is refused. Offsets are in bytes from its start.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum GzipError {
    /// Does not begin with [`MAGIC`].
    #[error("no gzip file")]
    NotGzip,
    /// Header, stream or trailer go on behind the last byte.
    #[error("truncated")]
    Truncated,
    /// Another method than deflate.
    #[error("method {0}")]
    Method(u8),
    /// Reserved flags; all flags.
    #[error("reserved flags {0:#x}")]
    Flags(u8),
    /// The deflate stream is malformed.
    #[error("no deflate stream")]
    Broken,
    /// The result is longer than the memory for it.
    #[error("longer than {0:#x} bytes")]
    TooLong(usize),
    /// The trailer names another length, modulo 2^32.
    #[error("{found:#x} bytes, the trailer says {said:#x}")]
    Length {
        /// Bytes that came out.
        found: u32,
        /// Bytes by the trailer.
        said: u32,
    },
    /// Something but zeros behind the first member.
    #[error("more data at {0:#x}")]
    Trailing(usize),
    /// No heap for the tables.
    #[error("no memory")]
    NoMemory,
}

/// Returns the length of the header: where the deflate stream begins.
///
/// # Errors
/// [`GzipError`]: not gzip, or a field of the header.
fn header_len(file: &[u8]) -> Result<usize, GzipError> {
    if !file.starts_with(&MAGIC) {
        return Err(GzipError::NotGzip);
    }
    let (fixed, mut rest) = file.split_first_chunk::<FIXED>().ok_or(GzipError::Truncated)?;
    let [_, _, method, flags, ..] = *fixed;
    if method != DEFLATE {
        return Err(GzipError::Method(method));
    }
    if flags & RESERVED != 0 {
        return Err(GzipError::Flags(flags));
    }
    if flags & FEXTRA != 0 {
        let (len, behind) = rest.split_first_chunk::<2>().ok_or(GzipError::Truncated)?;
        rest = behind.get(u16::from_le_bytes(*len).into()..).ok_or(GzipError::Truncated)?;
    }
    for text in [FNAME, FCOMMENT] {
        if flags & text != 0 {
            let nul = rest.iter().position(|byte| *byte == 0).ok_or(GzipError::Truncated)?;
            rest = rest.get(nul.saturating_add(1)..).ok_or(GzipError::Truncated)?;
        }
    }
    if flags & FHCRC != 0 {
        rest = rest.get(2..).ok_or(GzipError::Truncated)?;
    }
    Ok(file.len().saturating_sub(rest.len()))
}

/// A file that is being inflated.
pub(super) struct Inflate<'a> {
    /// One; on the heap because of its length, some 11 KiB.
    state: Vec<DecompressorOxide>,
    to: &'a mut [u8],
    written: usize,
    /// Bytes up to the stream that were not taken yet.
    skip: usize,
    /// Bytes of the file behind what was inflated.
    left: usize,
    /// `None` while the stream goes on.
    end: Option<Result<(), GzipError>>,
}

impl<'a> Inflate<'a> {
    /// Begins a file that lies at `place` of `data`; the result goes to the front of `to`.
    ///
    /// # Errors
    /// [`GzipError`]: of the header, or [`GzipError::NoMemory`].
    pub(super) fn new(data: &[u8], place: &Range<usize>, to: &'a mut [u8]) -> Result<Self, GzipError> {
        let file = data.get(place.clone()).ok_or(GzipError::Truncated)?;
        let header = header_len(file)?;
        let mut state = Vec::new();
        state.try_reserve_exact(1).map_err(|_| GzipError::NoMemory)?;
        state.push(DecompressorOxide::default());
        let (skip, left) = (place.start.saturating_add(header), file.len().saturating_sub(header));
        Ok(Self { state, to, written: 0, skip, left, end: None })
    }

    /// Takes the next piece of the data, of any length.
    pub(super) fn take(&mut self, piece: &[u8]) {
        let skip = self.skip.min(piece.len());
        self.skip = self.skip.saturating_sub(skip);
        let input = piece.get(skip..).unwrap_or_default();
        let input = input.get(..self.left).unwrap_or(input);
        let (Some(state), None, false) = (self.state.first_mut(), self.end, input.is_empty()) else { return };
        let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF | TINFL_FLAG_HAS_MORE_INPUT;
        let (status, consumed, written) = decompress(state, input, self.to, self.written, flags);
        self.written = self.written.saturating_add(written);
        self.left = self.left.saturating_sub(consumed);
        match status {
            TINFLStatus::NeedsMoreInput => {}
            // The memory is full, which is right if the end of the stream comes next.
            TINFLStatus::HasMoreOutput if consumed == input.len() => {}
            TINFLStatus::Done => self.end = Some(Ok(())),
            TINFLStatus::HasMoreOutput => self.end = Some(Err(GzipError::TooLong(self.to.len()))),
            _ => self.end = Some(Err(GzipError::Broken)),
        }
    }

    /// Ends the file, all of which was taken; `file` are its bytes. Returns how many bytes were written.
    ///
    /// # Errors
    /// [`GzipError`].
    pub(super) fn finish(self, file: &[u8]) -> Result<usize, GzipError> {
        self.end.ok_or(GzipError::Truncated)??;
        let behind = file.len().checked_sub(self.left).and_then(|end| file.get(end..)).unwrap_or_default();
        let (_crc, behind) = behind.split_first_chunk::<4>().ok_or(GzipError::Truncated)?;
        let (said, padding) = behind.split_first_chunk::<4>().ok_or(GzipError::Truncated)?;
        let said = u32::from_le_bytes(*said);
        let found = u64::try_from(self.written).unwrap_or(u64::MAX) & u64::from(u32::MAX);
        let found = u32::try_from(found).unwrap_or(u32::MAX);
        if said != found {
            return Err(GzipError::Length { found, said });
        }
        if padding.iter().any(|byte| *byte != 0) {
            return Err(GzipError::Trailing(file.len().saturating_sub(padding.len())));
        }
        Ok(self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, GzBuilder, write::GzEncoder};
    use std::io::Write as _;

    fn plain() -> Vec<u8> {
        (0..3000u32).flat_map(|i| (i.wrapping_mul(i) / 7).to_le_bytes()).collect()
    }

    fn gzip(builder: GzBuilder, level: u32) -> Vec<u8> {
        let mut encoder = builder.write(Vec::new(), Compression::new(level));
        encoder.write_all(&plain()).unwrap();
        encoder.finish().unwrap()
    }

    /// Inflates what lies at `place` of the data, which comes in pieces of this length.
    fn inflate(data: &[u8], place: Range<usize>, piece: usize, room: usize) -> Result<Vec<u8>, GzipError> {
        let mut to = vec![0xee; room];
        let mut inflate = Inflate::new(data, &place, &mut to)?;
        data.chunks(piece).for_each(|piece| inflate.take(piece));
        let written = inflate.finish(&data[place])?;
        to.truncate(written);
        Ok(to)
    }

    fn whole(file: &[u8]) -> Result<Vec<u8>, GzipError> {
        inflate(file, 0..file.len(), 64 * 1024, 12_000)
    }

    #[test]
    fn a_file_is_inflated_in_pieces_of_any_length_with_anything_around_it() {
        for level in [0, 1, 9] {
            let file = gzip(GzBuilder::new(), level);
            for piece in (1..40).chain([255, 256, 1000, file.len() - 9, file.len() - 8, file.len() - 1]) {
                let data = [&[0x1f; 77], file.as_slice(), &[0x8b; 50]].concat();
                let got = inflate(&data, 77..77 + file.len(), piece, 12_000);
                assert!(got.as_ref() == Ok(&plain()), "level {level}, pieces of {piece}: {:?}", got.err());
            }
        }
    }

    #[test]
    fn optional_fields_of_the_header_are_skipped() {
        let builder = GzBuilder::new().filename("vmlinux").comment("a kernel").extra([7; 300]).mtime(1);
        let mut file = gzip(builder, 6);
        assert!(whole(&file) == Ok(plain()));
        let len = header_len(&file).unwrap();
        assert_eq!(len, 10 + 2 + 300 + 8 + 9);
        file[3] |= FHCRC;
        file.splice(len..len, [0, 0]);
        assert!(whole(&file) == Ok(plain()));
        for cut in 0..len + 2 {
            let error = if cut < 2 { GzipError::NotGzip } else { GzipError::Truncated };
            assert_eq!(header_len(&file[..cut]), Err(error), "{cut}");
        }
    }

    #[test]
    fn each_bad_file_is_refused_by_name() {
        let good = gzip(GzBuilder::new(), 6);
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut file = good.clone();
            change(&mut file);
            whole(&file).unwrap_err()
        };
        let at = good.len() - 4;
        assert_eq!(with(&|f| f[0] = 0), GzipError::NotGzip);
        assert_eq!(with(&|f| f[2] = 7), GzipError::Method(7));
        assert_eq!(with(&|f| f[3] = 0x20), GzipError::Flags(0x20));
        assert_eq!(with(&|f| f[10] |= 0b110), GzipError::Broken);
        assert_eq!(with(&|f| f[at] ^= 1), GzipError::Length { found: 12_000, said: 12_001 });
        assert_eq!(with(&|f| f.push(1)), GzipError::Trailing(good.len()));
        assert_eq!(with(&|f| f.extend(gzip(GzBuilder::new(), 6))), GzipError::Trailing(good.len()));
        assert_eq!(with(&|f| f[at - 4..].fill(0)), GzipError::Length { found: 12_000, said: 0 });
        for piece in [1, 2, 3, 8, 999, 64 * 1024] {
            let room = |room| inflate(&good, 0..good.len(), piece, room).unwrap_err();
            assert_eq!((room(11_999), room(0)), (GzipError::TooLong(11_999), GzipError::TooLong(0)));
        }
        let padded = [good.as_slice(), &[0; 999]].concat();
        assert!(whole(&padded) == Ok(plain()));
    }

    #[test]
    fn a_file_that_was_cut_anywhere_is_refused() {
        let good = gzip(GzBuilder::new(), 6);
        for len in 0..good.len() {
            let error = if len < 2 { GzipError::NotGzip } else { GzipError::Truncated };
            assert_eq!(whole(&good[..len]).unwrap_err(), error, "{len}");
        }
    }

    #[test]
    fn an_empty_file_is_inflated_to_nothing() {
        let file = GzEncoder::new(Vec::new(), Compression::new(9)).finish().unwrap();
        assert_eq!(inflate(&file, 0..file.len(), 1, 0), Ok(Vec::new()));
    }
}
