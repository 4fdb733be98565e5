//! A session in recovery: the agent's leases are renewed whatever they are, and nothing else happens, so that a
//! broker that is behind ends nothing.

use spillway_tunnel::protocol::{BrokerMode, ToAgent, ToBroker, Welcome};
use spillway_tunnel::quic::BrokerSession;

use super::Sessions;

pub(super) async fn run(sessions: &Sessions, mut session: BrokerSession) {
    let read = |view: &crate::engine::View<'_>| {
        let state = view.federation.state();
        (state.incarnation, state.journal)
    };
    let Ok((incarnation, journal)) = sessions.engine.read(read).await else { return };
    let welcome = Welcome {
        protocol: spillway_tunnel::protocol::PROTOCOL.max,
        features: vec![],
        deployment: sessions.ca.deployment().to_owned(),
        node: session.node,
        epoch: 0,
        at: sessions.mark(incarnation, journal),
        renew_every: sessions.renew_every,
        mode: BrokerMode::Recovery,
        acked: 0,
        usage_after: None,
    };
    if session.handle.send(&ToAgent::Welcome(Box::new(welcome))).await.is_err() {
        return;
    }
    tracing::warn!(node.id = %session.node, "this node's leases are renewed and nothing else: recovery");
    loop {
        let message = tokio::select! {
            () = sessions.stop.cancelled() => return,
            message = session.receiver.recv() => message,
        };
        match message {
            Ok(Some(ToBroker::Renew { number, attempts, usage: _ })) => {
                if session.handle.send(&ToAgent::Renewed { number, attempts }).await.is_err() {
                    return;
                }
            }
            Ok(Some(ToBroker::Hello(_) | ToBroker::Events { .. } | ToBroker::InterruptionNotice { .. })) => {}
            Ok(None) | Err(_) => return,
        }
    }
}
