//! Tests of frames and prefixes, and the four-way matrix of old and new readers and writers.

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use spillway_ledger::journal::UsageMark;
use spillway_types::{
    Allocation, AttemptId, Capabilities, Checkpoint, DurationMs, Inventory, InventorySource, JobId,
    NodeCapacity,
};

use super::*;
use crate::protocol::{
    AgentEvent, Desired, Hello, HighWater, Input, Lease, ObservedPart, PROTOCOL, PartEnd, PartPhase,
    SpoolHead, StreamHeader, ToAgent, ToBroker, UsageStatement, WantedPhase,
};

fn attempt() -> AttemptId {
    AttemptId::from_uuid(uuid::Uuid::from_u64_pair(1, 2))
}

fn hello() -> Hello {
    Hello {
        protocol: PROTOCOL,
        features: vec!["output".to_owned()],
        version: "0.1.0".to_owned(),
        boot_nonce: u64::MAX,
        deployment: "acme".to_owned(),
        seen: HighWater { incarnation: 3, journal: 9, proof: 1 },
        inventory: Inventory {
            hostname: "dgx-1".to_owned(),
            capacity: NodeCapacity::default(),
            capabilities: Capabilities::default(),
            source: InventorySource::CpuOnly,
            labels: [("rack".to_owned(), "7".to_owned())].into(),
        },
        observed: vec![ObservedPart { attempt: attempt(), rank: 1, phase: PartPhase::Running }],
        spool: Some(SpoolHead { next: 9, usage_after: 2 }),
    }
}

fn stated() -> UsageStatement {
    let mut mark = UsageMark::begin(2);
    let ended = AgentEvent::Ended { attempt: attempt(), rank: 0, end: PartEnd::Stopped, ran_ms: 7 };
    mark.take(5, &ended.usage().unwrap());
    UsageStatement { mark, age_ms: 3 }
}

fn lease() -> Lease {
    Lease {
        attempt: attempt(),
        number: 2,
        job: JobId::from_uuid(uuid::Uuid::from_u64_pair(1, 3)),
        task: 4,
        rank: 1,
        want: WantedPhase::Running,
        ttl: DurationMs(60_000),
        allocation: Allocation::default(),
        command: vec!["true".to_owned()],
        env: [("A".to_owned(), "b".to_owned())].into(),
        time_limit: DurationMs(1000),
        checkpoint: Checkpoint::default(),
        hosts: vec!["dgx-1".to_owned(), "dgx-2".to_owned()],
        inputs: vec![Input {
            dataset: "web".parse().unwrap(),
            bytes: 7,
            sha256: Some("0f".repeat(32).parse().unwrap()),
            source: Some("https://key@a.example/web.tar?sig=1".parse().unwrap()),
        }],
    }
}

fn as_value<T: Serialize>(message: &T) -> Value {
    let frame = encode(message, MAX_FRAME_TO_AGENT).unwrap();
    decode(frame.get(LENGTH_BYTES..).unwrap()).unwrap()
}

fn from_value<T: DeserializeOwned>(value: &Value) -> T {
    let frame = encode(value, MAX_FRAME_TO_AGENT).unwrap();
    decode(frame.get(LENGTH_BYTES..).unwrap()).unwrap()
}

/// What a newer writer would send: a field that nobody knows, in every map.
fn with_unknown_fields(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut map: serde_json::Map<String, Value> =
                map.into_iter().map(|(key, value)| (key, with_unknown_fields(value))).collect();
            map.insert("from-the-future".to_owned(), json!({ "nested": [1, "two", null] }));
            Value::Object(map)
        }
        Value::Array(items) => Value::Array(items.into_iter().map(with_unknown_fields).collect()),
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => plain,
    }
}

fn without(mut value: Value, fields: &[&str]) -> Value {
    for field in fields {
        assert!(value.as_object_mut().unwrap().remove(*field).is_some(), "{field}");
    }
    value
}

/// A reader or writer of a version before or after this one.
#[derive(Debug, Serialize, Deserialize)]
struct OldHello {
    protocol: crate::protocol::ProtocolRange,
    boot_nonce: u64,
    inventory: Inventory,
}

#[derive(Debug, Deserialize)]
struct NewHello {
    boot_nonce: u64,
    #[serde(default)]
    invented_later: u64,
}

#[test]
fn hello_is_understood_between_versions() {
    let now = hello();
    assert_eq!(from_value::<Hello>(&as_value(&now)), now, "same version");
    let mut value = with_unknown_fields(as_value(&now));
    // Labels are a map of the operator's own, where every name is a known one.
    value["inventory"]["labels"] = json!({ "rack": "7" });
    assert_eq!(from_value::<Hello>(&value), now, "newer writer, this reader");
    let old = OldHello { protocol: PROTOCOL, boot_nonce: 5, inventory: now.inventory.clone() };
    let read: Hello = from_value(&as_value(&old));
    let expected = Hello {
        boot_nonce: 5,
        features: vec![],
        version: String::new(),
        deployment: String::new(),
        seen: HighWater::default(),
        observed: vec![],
        spool: None,
        ..now.clone()
    };
    assert_eq!(read, expected, "older writer, this reader");
    assert_eq!(from_value::<OldHello>(&as_value(&now)).boot_nonce, u64::MAX, "older reader");
    let newer = from_value::<NewHello>(&as_value(&now));
    assert_eq!((newer.boot_nonce, newer.invented_later), (u64::MAX, 0), "newer reader");
}

#[derive(Debug, Deserialize)]
struct OldLease {
    attempt: AttemptId,
    number: u32,
}

#[derive(Debug, Deserialize)]
struct NewLease {
    attempt: AttemptId,
    #[serde(default)]
    invented_later: Option<String>,
}

#[test]
fn lease_is_understood_between_versions() {
    let now = lease();
    assert_eq!(from_value::<Lease>(&as_value(&now)), now, "same version");
    let mut value = with_unknown_fields(as_value(&now));
    value["env"] = json!({ "A": "b" });
    assert_eq!(from_value::<Lease>(&value), now, "newer writer, this reader");
    let read: Lease = from_value(&without(as_value(&now), &["task", "rank", "env", "hosts", "inputs"]));
    let expected = Lease { task: 0, rank: 0, env: [].into(), hosts: vec![], inputs: vec![], ..now.clone() };
    assert_eq!(read, expected, "older writer, this reader");
    let older = from_value::<OldLease>(&as_value(&now));
    assert_eq!((older.attempt, older.number), (attempt(), 2), "older reader");
    let newer = from_value::<NewLease>(&as_value(&now));
    assert_eq!((newer.attempt, newer.invented_later), (attempt(), None), "newer reader");
}

#[derive(Debug, Deserialize)]
struct OldRenew {
    number: u64,
}

#[test]
fn a_renewal_is_understood_between_versions() {
    let now = as_value(&ToBroker::Renew { number: 8, attempts: vec![], usage: Some(stated()) });
    assert_eq!(from_value::<OldRenew>(&now).number, 8, "older reader");
    let old = ToBroker::Renew { number: 8, attempts: vec![], usage: None };
    assert_eq!(from_value::<ToBroker>(&without(now, &["usage"])), old, "older writer");
}

#[test]
fn enums_with_bytes_inside_survive_a_frame() {
    let messages = [
        ToBroker::Hello(Box::new(hello())),
        ToBroker::Renew { number: 7, attempts: vec![attempt()], usage: None },
        ToBroker::Renew { number: 8, attempts: vec![], usage: Some(stated()) },
        ToBroker::Events {
            first: 1,
            events: vec![AgentEvent::Output {
                attempt: attempt(),
                rank: 0,
                offset: 9,
                data: vec![0, 255, 10],
            }],
        },
    ];
    for message in messages {
        let frame = encode(&message, MAX_FRAME_TO_BROKER).unwrap();
        assert_eq!(decode::<ToBroker>(frame.get(LENGTH_BYTES..).unwrap()).unwrap(), message);
    }
    let desired = ToAgent::Desired(Desired { leases: vec![lease()], ..Desired::default() });
    assert_eq!(from_value::<ToAgent>(&as_value(&desired)), desired);
    let header = StreamHeader::Output { attempt: attempt(), rank: 0, offset: 1 << 40, follow: true };
    assert_eq!(from_value::<StreamHeader>(&as_value(&header)), header);
}

#[test]
fn the_limit_holds_at_its_edge_on_both_sides() {
    let text = "x".repeat(100);
    let length = encode(&text, 1000).unwrap().len() - LENGTH_BYTES;
    assert!(encode(&text, length).is_ok());
    assert_eq!(encode(&text, length - 1), Err(FrameError::Oversize { length, limit: length - 1 }));
    let frame = encode(&text, length).unwrap();
    let mut decoder = FrameDecoder::new(length);
    decoder.push(&frame);
    assert_eq!(decode::<String>(&decoder.next_frame().unwrap().unwrap()).unwrap(), text);
    let mut strict = FrameDecoder::new(length - 1);
    strict.push(frame.get(..LENGTH_BYTES).unwrap());
    let refused = Err(FrameError::Oversize { length, limit: length - 1 });
    assert_eq!(strict.next_frame(), refused, "from the length alone");
    strict.push(&[0; 64]);
    assert_eq!(strict.next_frame(), refused, "and it stays refused");
}

#[test]
fn deep_nesting_and_trailing_bytes_are_refused() {
    let mut deep = vec![0x91; 10_000];
    deep.push(0xc0);
    assert!(matches!(decode::<Value>(&deep), Err(FrameError::Malformed { .. })));
    let field = [&[0x81, 0xa1, b'x'][..], &deep].concat();
    assert!(matches!(decode::<ToBroker>(&field), Err(FrameError::Malformed { .. })));
    let error = decode::<u8>(&[1, 2]).unwrap_err();
    assert_eq!(error.to_string(), "a frame is not a u8: 1 bytes follow it");
}

#[test]
fn prefixes_are_read_byte_by_byte() {
    let read = |bytes: &[u8]| {
        let mut reader = PrefixReader::default();
        bytes.iter().map(|byte| reader.push(*byte)).find(|step| *step != Ok(None)).unwrap_or(Ok(None))
    };
    assert_eq!(read(&StreamKind::Request.prefix()), Ok(Some(StreamKind::Request)));
    let mut unknown = Vec::new();
    write_leb128(300, &mut unknown);
    write_leb128(u32::MAX, &mut unknown);
    assert_eq!(read(&unknown), Err(FrameError::UnknownStream { kind: 300, version: u32::MAX }));
    assert_eq!(read(&[0x80, 0x80]), Ok(None));
    assert_eq!(read(&[0xff; 6]), Err(FrameError::MalformedPrefix));
    assert_eq!(read(&[0x80, 0x80, 0x80, 0x80, 0x10]), Err(FrameError::MalformedPrefix));
}

#[test]
fn the_newest_common_version_is_spoken() {
    let range = |min, max| crate::protocol::ProtocolRange { min, max };
    for (ours, theirs, common) in [
        (range(1, 1), range(1, 1), Some(1)),
        (range(1, 3), range(2, 9), Some(3)),
        (range(2, 9), range(1, 3), Some(3)),
        (range(1, 2), range(3, 4), None),
        (range(3, 4), range(1, 2), None),
    ] {
        assert_eq!(ours.common(theirs), common, "{ours:?} and {theirs:?}");
    }
}

proptest! {
    #[test]
    fn frames_come_out_as_they_went_in_wherever_they_are_split(
        texts in proptest::collection::vec(".{0,40}", 0..8),
        cuts in proptest::collection::vec(1_usize..24, 1..40),
    ) {
        let mut bytes = Vec::new();
        for text in &texts {
            bytes.extend_from_slice(&encode(text, 1000).unwrap());
        }
        let mut decoder = FrameDecoder::new(1000);
        let mut out: Vec<String> = Vec::new();
        let (mut rest, mut cuts) = (bytes.as_slice(), cuts.iter().cycle());
        while !rest.is_empty() {
            let (head, tail) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            rest = tail;
            decoder.push(head);
            while let Some(body) = decoder.next_frame().unwrap() {
                out.push(decode(&body).unwrap());
            }
        }
        prop_assert_eq!(out, texts);
        prop_assert_eq!(decoder.end(), Ok(()));
    }

    #[test]
    fn random_bytes_never_panic_and_never_grow_past_the_limit(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        small in any::<bool>(),
    ) {
        let mut decoder = FrameDecoder::new(64);
        for (index, byte) in bytes.iter().enumerate() {
            // Small lengths, so that some frames are whole.
            decoder.push(&[if small && index % 16 < 3 { 0 } else { *byte }]);
            match decoder.next_frame() {
                Ok(Some(body)) => prop_assert!(body.len() <= 64),
                Ok(None) => {}
                Err(error) => {
                    let oversize = matches!(error, FrameError::Oversize { limit: 64, .. });
                    prop_assert!(oversize, "{error}");
                }
            }
            prop_assert!(decoder.buffer.len() <= 64 + LENGTH_BYTES);
        }
        drop(decode::<ToBroker>(&bytes));
        drop(decode::<ToAgent>(&bytes));
        drop(decode::<crate::protocol::EnrolRequest>(&bytes));
        let mut reader = PrefixReader::default();
        drop(bytes.iter().map(|byte| reader.push(*byte)).collect::<Vec<_>>());
    }
}
