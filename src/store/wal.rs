//! SQLite's write-ahead log as bytes: which of its frames can be believed.
//!
//! SQLite reads the log up to the first frame that does not fit and forgets the rest without a word. That is right
//! for a tail that a power cut left half written, and wrong for a flipped bit in the middle: commits that were
//! acknowledged would vanish. Each frame's checksum continues that of the frame before, as stored, so the frames
//! behind a bad one can still be told from garbage. See "WAL file format" in SQLite's documentation.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The low bit tells the byte order of the checksums.
const MAGIC: u32 = 0x377f_0682;

/// What a log holds, frame by frame.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Octets of one page; 0 if there is no frame to be believed.
    pub page_size: u32,
    /// The latest image of each page: its offset in the log.
    pub pages: BTreeMap<u32, u64>,
    /// A frame that was synced is not readable.
    pub damaged: bool,
}

/// Says whether SQLite would lose committed changes by its own reading of the log.
///
/// # Errors
/// In words, if it would. A log that cannot be read at all is left to SQLite.
pub(super) fn check(path: &Path) -> Result<(), String> {
    match scan(path) {
        Ok(log) if log.damaged => Err("a frame inside the write-ahead log is unreadable".to_owned()),
        _ => Ok(()),
    }
}

/// Reads the log.
pub(super) fn scan(path: &Path) -> io::Result<Log> {
    let mut file = BufReader::with_capacity(1 << 16, File::open(path)?);
    let mut header = [0; HEADER];
    if file.read_exact(&mut header).is_err() {
        return Ok(Log::default());
    }
    let sound = |big_endian| checksum((0, 0), &header[..24], big_endian) == (be32(&header, 24), be32(&header, 28));
    let header_sound = be32(&header, 0) & !1 == MAGIC && sound(be32(&header, 0) & 1 == 1);
    let page_size = be32(&header, 8);
    if !(512..=65_536).contains(&page_size) || !page_size.is_power_of_two() {
        return Ok(Log { damaged: true, ..Log::default() });
    }
    let mut reader = Reader {
        file,
        big_endian: header_sound && be32(&header, 0) & 1 == 1,
        salt: header_sound.then(|| (be32(&header, 16), be32(&header, 20))),
        sum: (be32(&header, 24), be32(&header, 28)),
        page: vec![0; page_size as usize],
        offset: HEADER as u64,
    };
    Ok(collect(&mut reader, page_size, header_sound))
}

/// Gathers the pages of committed transactions, also beyond gaps of bad frames.
///
/// A transaction starts only when the one before is on the disk. So a gap is the trace of a power cut if nothing but
/// the rest of its own transaction follows, and damage if a later transaction does. For this to hold, the log is
/// begun anew whenever an attempt may have left frames behind its end (`Session::begin_log_anew`).
fn collect(reader: &mut Reader, page_size: u32, header_sound: bool) -> Log {
    let mut log = Log { page_size, ..Log::default() };
    let mut beyond = BTreeMap::new();
    let mut open: Vec<(u32, u64)> = Vec::new();
    let (mut broken, mut commits_beyond) = (!header_sound, 0);
    while let Some(frame) = reader.next_frame() {
        if !frame.verified {
            broken = true;
            continue;
        }
        open.push((frame.page, frame.offset));
        if frame.commits {
            let pages = if broken { &mut beyond } else { &mut log.pages };
            pages.extend(open.drain(..));
            commits_beyond += u32::from(broken);
        }
    }
    log.damaged = if header_sound { commits_beyond > 1 } else { commits_beyond > 0 };
    if log.damaged {
        log.pages.extend(beyond);
    }
    log
}

struct Reader {
    file: BufReader<File>,
    big_endian: bool,
    /// What frames of this generation carry; older ones lie behind them in the file. Unknown until the first frame
    /// if the header is bad.
    salt: Option<(u32, u32)>,
    /// Checksum stored in the frame before.
    sum: (u32, u32),
    page: Vec<u8>,
    offset: u64,
}

struct Frame {
    page: u32,
    /// Where its page image starts.
    offset: u64,
    commits: bool,
    verified: bool,
}

impl Reader {
    /// The next frame; `None` at the end of the file or of the generation.
    fn next_frame(&mut self) -> Option<Frame> {
        let mut header = [0; FRAME_HEADER];
        self.file.read_exact(&mut header).ok()?;
        self.file.read_exact(&mut self.page).ok()?;
        let offset = self.offset + FRAME_HEADER as u64;
        self.offset = offset + self.page.len() as u64;
        let stored = (be32(&header, 16), be32(&header, 20));
        let sum = checksum(self.sum, &header[..8], self.big_endian);
        let sum = checksum(sum, &self.page, self.big_endian);
        self.sum = stored;
        let salt = (be32(&header, 8), be32(&header, 12));
        let expected = *self.salt.get_or_insert(salt);
        let page = be32(&header, 0);
        Some(Frame {
            page,
            offset,
            commits: be32(&header, 4) != 0,
            verified: page != 0 && salt == expected && sum == stored,
        })
    }
}

/// SQLite's checksum over pairs of 32-bit words. `bytes` is a multiple of eight octets long.
fn checksum(start: (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    let word = |at: &[u8]| {
        let octets = [at[0], at[1], at[2], at[3]];
        if big_endian { u32::from_be_bytes(octets) } else { u32::from_le_bytes(octets) }
    };
    bytes.chunks_exact(8).fold(start, |(a, b), pair| {
        let a = a.wrapping_add(word(&pair[..4])).wrapping_add(b);
        (a, b.wrapping_add(word(&pair[4..])).wrapping_add(a))
    })
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}
