//! A look at the lengths that an Arrow IPC file declares, before the reader reserves memory for them.
//!
//! The reader checks arrays once it has them, but it allocates by lengths it takes on trust, and an allocation that cannot be had
//! ends the process. Here every block is compared with the file's size and every compressed buffer with a limit. Only
//! metadata are read.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use datafusion::arrow::ipc::{Message, RecordBatch, root_as_footer, root_as_message};

use super::Watched;

/// A batch may not unpack to more than this.
const BATCH_BYTES_MAX: i64 = 4 << 30;
/// Nor may it claim more rows.
const BATCH_ROWS_MAX: i64 = 1 << 31;
const CONTINUATION: [u8; 4] = [0xff; 4];

/// Fails where a file in the IPC file format declares lengths that cannot be.
pub(super) fn check_file(file: &mut Watched) -> io::Result<()> {
    let size = file.size()?;
    let tail_at = size
        .checked_sub(10)
        .ok_or_else(|| damaged("it is too short"))?;
    file.seek(SeekFrom::Start(tail_at))?;
    let mut length = [0; 4];
    file.read_exact(&mut length)?;
    let length =
        u64::try_from(i32::from_le_bytes(length)).map_err(|_| damaged("a negative length"))?;
    let footer_at = tail_at
        .checked_sub(length)
        .ok_or_else(|| damaged("a footer longer than the file"))?;
    let footer = read_at(file, footer_at, length)?;
    let footer = root_as_footer(&footer).map_err(|_| damaged("the footer cannot be read"))?;
    let blocks = footer
        .dictionaries()
        .into_iter()
        .flatten()
        .chain(footer.recordBatches().into_iter().flatten());
    for block in blocks {
        let (offset, meta) = (
            unsigned(block.offset())?,
            unsigned(i64::from(block.metaDataLength()))?,
        );
        let body = unsigned(block.bodyLength())?;
        let body_at = offset.checked_add(meta).filter(|&at| at <= size);
        let body_at = body_at.ok_or_else(|| damaged("a block outside of the file"))?;
        if body > size - body_at || meta < 8 {
            return Err(damaged("a block outside of the file"));
        }
        let bytes = read_at(file, offset, meta)?;
        let skip = if bytes.starts_with(&CONTINUATION) {
            8
        } else {
            4
        };
        let message = root_as_message(bytes.get(skip..).unwrap_or(&[]))
            .map_err(|_| damaged("a message cannot be read"))?;
        check_message(file, &message, body_at, body)?;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(())
}

/// Fails where a file in the IPC stream format declares lengths that cannot be.
pub(super) fn check_stream(file: &mut Watched) -> io::Result<()> {
    let size = file.size()?;
    let mut reader = BufReader::new(file.try_clone()?);
    let mut at = 0;
    // An absent end marker is allowed: the stream may just end.
    while size - at >= 4 {
        reader.seek(SeekFrom::Start(at))?;
        let mut length = [0; 4];
        reader.read_exact(&mut length)?;
        at += 4;
        if length == CONTINUATION {
            reader.read_exact(&mut length)?;
            at += 4;
        }
        let meta = unsigned(i64::from(i32::from_le_bytes(length)))?;
        if meta == 0 {
            break;
        }
        if meta > size - at {
            return Err(damaged("a message longer than the file"));
        }
        let bytes = read_at(file, at, meta)?;
        at += meta;
        let message = root_as_message(&bytes).map_err(|_| damaged("a message cannot be read"))?;
        let body = unsigned(message.bodyLength())?;
        if body > size - at {
            return Err(damaged("a message longer than the file"));
        }
        check_message(file, &message, at, body)?;
        at += body;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(())
}

fn check_message(
    file: &mut Watched,
    message: &Message<'_>,
    body_at: u64,
    body: u64,
) -> io::Result<()> {
    let dictionary = message
        .header_as_dictionary_batch()
        .and_then(|dictionary| dictionary.data());
    match message.header_as_record_batch().or(dictionary) {
        Some(batch) => check_batch(file, &batch, body_at, body),
        None => Ok(()),
    }
}

fn check_batch(
    file: &mut Watched,
    batch: &RecordBatch<'_>,
    body_at: u64,
    body: u64,
) -> io::Result<()> {
    let nodes = batch
        .nodes()
        .into_iter()
        .flatten()
        .map(|node| node.length());
    if nodes
        .chain([batch.length()])
        .any(|rows| !(0..BATCH_ROWS_MAX).contains(&rows))
    {
        return Err(damaged("an impossible number of rows"));
    }
    let mut unpacked = 0i64;
    for buffer in batch.buffers().into_iter().flatten() {
        let (offset, length) = (unsigned(buffer.offset())?, unsigned(buffer.length())?);
        if offset.checked_add(length).is_none_or(|end| end > body) {
            return Err(damaged("a buffer outside of its block"));
        }
        if batch.compression().is_none() || length == 0 {
            continue;
        }
        let prefix = read_at(file, body_at + offset, 8)?;
        let declared = <[u8; 8]>::try_from(prefix).map_or(0, i64::from_le_bytes);
        unpacked = unpacked.saturating_add(declared.max(0));
        if unpacked > BATCH_BYTES_MAX {
            return Err(damaged("a batch that claims to unpack to more than 4 GiB"));
        }
    }
    Ok(())
}

fn read_at(file: &mut Watched, at: u64, length: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    // Grows with what is there, whatever the length claims.
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    let whole = u64::try_from(bytes.len()).is_ok_and(|read| read == length);
    if whole {
        Ok(bytes)
    } else {
        Err(damaged("it ends too early"))
    }
}

fn unsigned(length: i64) -> io::Result<u64> {
    u64::try_from(length).map_err(|_| damaged("a negative length"))
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
