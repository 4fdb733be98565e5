//! Tests of outputs and of pacing.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn an_output_is_paced_by_its_reader_and_does_not_hold_up_messages() {
    const TOTAL: usize = 5 * 1024 * 1024;
    let mut broker = broker("acme");
    let (mut agent, mut session) = session(&mut broker, 1).await;
    let written = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&written);
    let writer = tokio::spawn(async move {
        let (header, responder) = agent.streams.accept().await.unwrap().read_header().await.unwrap();
        assert_eq!(header, output(77));
        let mut writer = responder.accept().await.unwrap();
        for chunk in 0..TOTAL / 4096 {
            let byte = u8::try_from(chunk % 251).unwrap();
            writer.write(&[byte; 4096]).await.unwrap();
            counter.fetch_add(4096, std::sync::atomic::Ordering::Relaxed);
        }
        writer.finish().unwrap();
        agent
    });
    let mut reader = session.handle.open_output(&output(77)).await.unwrap();
    // Nobody reads: what is written settles at what both sides may hold, far below the whole.
    let mut last = usize::MAX;
    while last != written.load(std::sync::atomic::Ordering::Relaxed) {
        last = written.load(std::sync::atomic::Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(last < TOTAL / 2, "{last} bytes went into the void");
    session.handle.send(&ToAgent::Acked { through: 1 }).await.unwrap();
    let (mut read, mut wrong) = (0, 0);
    while let Some(bytes) = reader.next().await.unwrap() {
        for byte in bytes {
            wrong += usize::from(usize::from(byte) != (read / 4096) % 251);
            read += 1;
        }
    }
    assert_eq!((read, wrong), (TOTAL, 0));
    let mut agent = writer.await.unwrap();
    assert_eq!(agent.receiver.recv().await.unwrap(), Some(ToAgent::Acked { through: 1 }));
    agent.sender.send(&ToBroker::Renew { number: 1, attempts: vec![], usage: None }).await.unwrap();
    assert!(session.receiver.recv().await.unwrap().is_some());
}

#[tokio::test]
async fn as_many_idle_outputs_as_allowed_leave_room_for_messages() {
    let mut broker = broker("acme");
    let (agent, mut session) = session(&mut broker, 1).await;
    let AgentSession { sender, mut streams, receiver: _receiver, .. } = agent;
    let serving = tokio::spawn(async move {
        loop {
            let stream = streams.accept().await.unwrap();
            tokio::spawn(async move {
                let (_, responder) = stream.read_header().await.unwrap();
                let mut writer = responder.accept().await.unwrap();
                while writer.write(&[0; 65536]).await.is_ok() {}
            });
        }
    });
    let mut readers = Vec::new();
    for _ in 0..MAX_OPEN_OUTPUTS {
        readers.push(session.handle.open_output(&output(0)).await.unwrap());
    }
    for number in 1..20 {
        let renew = ToBroker::Renew { number, attempts: vec![], usage: None };
        sender.send(&renew).await.unwrap();
        let read = tokio::time::timeout(Duration::from_secs(5), session.receiver.recv()).await;
        assert_eq!(read.expect("in time").unwrap(), Some(renew));
    }
    serving.abort();
}

#[tokio::test]
async fn outputs_are_rejected_given_up_and_stopped_each_in_its_own_way() {
    let mut broker = broker("acme");
    let wanted = output(0);
    let (mut agent, session) = session(&mut broker, 1).await;
    let reject = async {
        let (_, responder) = agent.streams.accept().await.unwrap().read_header().await.unwrap();
        responder.reject("no such attempt").await.unwrap();
    };
    let (answer, ()) = tokio::join!(session.handle.open_output(&wanted), reject);
    let error = answer.unwrap_err();
    assert!(matches!(&error, TunnelError::Rejected { message } if message == "no such attempt"), "{error:?}");

    let give_up = async {
        let (_, responder) = agent.streams.accept().await.unwrap().read_header().await.unwrap();
        responder.accept().await.unwrap()
    };
    let (reader, writer) = tokio::join!(session.handle.open_output(&wanted), give_up);
    drop(writer);
    let error = reader.unwrap().next().await.unwrap_err();
    assert!(matches!(&error, TunnelError::StreamReset { .. }), "a cut output is no whole one: {error:?}");

    let stop = async {
        let (_, responder) = agent.streams.accept().await.unwrap().read_header().await.unwrap();
        responder.accept().await.unwrap()
    };
    let (reader, writer) = tokio::join!(session.handle.open_output(&wanted), stop);
    drop(reader.unwrap());
    let mut writer = writer;
    tokio::time::timeout(Duration::from_secs(5), writer.stopped()).await.unwrap();
    let error = writer.write(b"late").await.unwrap_err();
    assert!(matches!(&error, TunnelError::StreamReset { .. }), "{error:?}");
}

#[tokio::test]
async fn a_stream_of_an_unknown_kind_is_answered_and_the_session_goes_on() {
    let mut broker = broker("acme");
    let (mut agent, session) = session(&mut broker, 1).await;
    let (mut send, mut recv) = session.handle.control.connection.open_bi().await.unwrap();
    send.write_all(&[0x7f, 0x02]).await.unwrap();
    let error = agent.streams.accept().await.unwrap().read_header().await.unwrap_err();
    let unknown = FrameError::UnknownStream { kind: 127, version: 2 };
    assert!(matches!(&error, TunnelError::Frame(found) if *found == unknown), "{error:?}");
    let reply = control::read_one::<crate::protocol::StreamReply>(&mut recv, 1000).await.unwrap();
    assert!(matches!(reply, crate::protocol::StreamReply::Rejected { .. }), "{reply:?}");
    let (mut send, _recv) = session.handle.control.connection.open_bi().await.unwrap();
    send.write_all(&StreamKind::Request.prefix()).await.unwrap();
    let error = agent.streams.accept().await.unwrap().read_header().await.unwrap_err();
    assert!(matches!(&error, TunnelError::TimedOut { .. }), "a header that never comes: {error:?}");
    session.handle.send(&ToAgent::Acked { through: 1 }).await.unwrap();
    assert!(agent.receiver.recv().await.unwrap().is_some());
}

#[tokio::test]
async fn a_cancelled_message_is_completed_by_the_next_one() {
    let mut broker = broker("acme");
    let (mut agent, session) = session(&mut broker, 1).await;
    let attempts = vec![spillway_types::AttemptId::from_uuid(uuid::Uuid::nil()); 60_000];
    let large = ToAgent::Renewed { number: 1, attempts };
    let cancelled = tokio::time::timeout(Duration::from_millis(100), session.handle.send(&large)).await;
    assert!(cancelled.is_err(), "nobody reads, so it cannot be through");
    let next = ToAgent::Acked { through: 2 };
    let read = async { (agent.receiver.recv().await.unwrap(), agent.receiver.recv().await.unwrap()) };
    let (sent, read) = tokio::join!(session.handle.send(&next), read);
    sent.unwrap();
    assert_eq!(read, (Some(large), Some(next)));
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_dropped_after_the_write_deadline() {
    let mut broker = broker("acme");
    let (agent, mut session) = session(&mut broker, 1).await;
    let sender = std::sync::Arc::get_mut(&mut session.handle.control).unwrap();
    sender.set_deadline(Duration::from_millis(100));
    let attempts = vec![spillway_types::AttemptId::from_uuid(uuid::Uuid::nil()); 60_000];
    let error = session.handle.send(&ToAgent::Renewed { number: 1, attempts }).await.unwrap_err();
    assert!(matches!(&error, TunnelError::TimedOut { .. }), "{error:?}");
    let told = agent.sender.closed().await;
    assert!(
        matches!(&told, TunnelError::ClosedByPeer { reason: Some(CloseReason::Stalled), .. }),
        "{told:?}"
    );
}
