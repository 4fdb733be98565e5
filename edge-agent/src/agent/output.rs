//! Cutting the output of an ended part into events.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use spillway_tunnel::protocol::{AgentEvent, MAX_OUTPUT, MAX_OUTPUT_CHUNK};

use crate::part::{OUTPUT, PartKey};

/// The next piece of a part's output behind `offset`; none at its end. Behind [`MAX_OUTPUT`] bytes stands one
/// line that says how much was cut.
pub(super) fn next_piece(folder: &Path, part: PartKey, offset: u64) -> io::Result<Option<AgentEvent>> {
    let file = match File::open(folder.join(OUTPUT)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let data = piece(&file, offset, MAX_OUTPUT)?;
    let PartKey { attempt, rank } = part;
    Ok((!data.is_empty()).then_some(AgentEvent::Output { attempt, rank, offset, data }))
}

fn piece(file: &File, offset: u64, most: u64) -> io::Result<Vec<u8>> {
    if offset == most {
        let length = file.metadata()?.len();
        let cut = length.saturating_sub(most);
        let line = format!("\n[spillway: {cut} bytes of output behind the first {most} were cut]\n");
        return Ok(if cut == 0 { Vec::new() } else { line.into_bytes() });
    }
    let room = usize::try_from(most.saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut data = vec![0; room.min(MAX_OUTPUT_CHUNK)];
    let mut filled = 0;
    while let Some(rest) = data.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    data.truncate(filled);
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::key_of;
    use crate::reconcile::tests::lease;

    #[test]
    fn output_comes_in_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let part = key_of(&lease(1));
        assert_eq!(next_piece(folder.path(), part, 0).unwrap(), None, "no file, no output");
        let whole: Vec<u8> = (0..=255).cycle().take(MAX_OUTPUT_CHUNK + 7).collect();
        std::fs::write(folder.path().join(OUTPUT), &whole).unwrap();
        let mut read = Vec::new();
        while let Some(AgentEvent::Output { offset, data, .. }) =
            next_piece(folder.path(), part, read.len() as u64).unwrap()
        {
            assert_eq!(offset, read.len() as u64);
            read.extend(data);
        }
        assert_eq!(read, whole);
    }

    #[test]
    fn what_is_cut_is_said_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(OUTPUT);
        std::fs::write(&path, b"0123456789").unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(piece(&file, 0, 10).unwrap(), b"0123456789");
        assert_eq!(piece(&file, 10, 10).unwrap(), b"", "nothing was cut at the very limit");
        assert_eq!(piece(&file, 0, 9).unwrap(), b"012345678");
        let line = String::from_utf8(piece(&file, 9, 9).unwrap()).unwrap();
        assert!(line.contains("1 bytes of output behind the first 9 were cut"), "{line}");
        assert_eq!(piece(&file, 9 + line.len() as u64, 9).unwrap(), b"");
    }
}
