//! One record: four bytes of length, four of CRC-32 over the payload (both big-endian), then the payload.

/// Bytes in front of each payload.
pub(super) const HEAD: usize = 8;
/// Largest payload that is believed: far above the largest event, so that a length of rubbish is not taken
/// for a huge record.
pub(super) const MAX_PAYLOAD: usize = 64 * 1024 * 1024;

/// CRC-32 as in IEEE 802.3 (reflected, polynomial 0xEDB88320).
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| (crc >> 8) ^ TABLE[usize::from(low_byte(crc) ^ byte)])
}

const fn low_byte(crc: u32) -> u8 {
    let [.., low] = crc.to_be_bytes();
    low
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    let mut value: u32 = 0;
    while index < 256 {
        let mut crc = value;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
        value += 1;
    }
    table
};

/// A payload as a record; none where it is over the limit.
pub(super) fn frame(payload: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_PAYLOAD)?;
    let mut record = Vec::with_capacity(HEAD + payload.len());
    record.extend_from_slice(&length.to_be_bytes());
    record.extend_from_slice(&crc32(payload).to_be_bytes());
    record.extend_from_slice(payload);
    Some(record)
}

/// The payload of the record that `bytes` begins with; none where it is torn or damaged.
pub(super) fn unframe(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let payload = rest.get(..length).filter(|_| length <= MAX_PAYLOAD)?;
    (crc32(payload) == u32::from_be_bytes(*crc)).then_some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn a_record_is_whole_or_nothing() {
        let record = frame(b"hello").unwrap();
        assert_eq!(unframe(&record), Some(&b"hello"[..]));
        for cut in 0..record.len() {
            assert_eq!(unframe(&record[..cut]), None, "{cut}");
        }
        for position in 0..record.len() {
            let mut damaged = record.clone();
            damaged[position] ^= 1;
            assert_eq!(unframe(&damaged), None, "{position}");
        }
    }
}
