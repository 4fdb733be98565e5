//! Messages on the control stream, in MessagePack with named fields: an unknown field is skipped, a missing
//! one takes its default, so that old and new readers and writers understand each other.
//!
//! The way of one session:
//! 1. The agent opens the control stream and sends [`ToBroker::Hello`].
//! 2. The broker answers [`ToAgent::Welcome`] or [`ToAgent::Refused`].
//! 3. The broker sends [`ToAgent::Desired`] whenever what should be true at the node changes: the whole set.
//! 4. The agent sends [`ToBroker::Renew`] with a growing number; the broker answers [`ToAgent::Renewed`].
//! 5. The agent sends [`ToBroker::Events`] from its spool; [`ToAgent::Acked`] lets it forget them.
//!
//! A lease on the agent ends at `sending time of renewal N + ttl`, where N is the newest number that a
//! `Renewed` or `Desired` naming the attempt has echoed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spillway_types::{
    Allocation, AttemptId, Checkpoint, ContentHash, DataSource, DatasetName, DurationMs, Inventory, JobId,
    NodeId,
};
pub use spillway_types::{PartEnd, PartPhase, WantedPhase};

use super::usage::{SpoolHead, UsageStatement};

/// Lowest and highest protocol version that this build speaks.
pub const PROTOCOL: ProtocolRange = ProtocolRange { min: 1, max: 1 };

/// A range of protocol versions, both ends inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtocolRange {
    /// Lowest.
    pub min: u16,
    /// Highest.
    pub max: u16,
}

impl ProtocolRange {
    /// The highest version that both ranges have; none where they do not meet.
    #[must_use]
    pub const fn common(self, other: Self) -> Option<u16> {
        let max = if self.max < other.max { self.max } else { other.max };
        let min = if self.min > other.min { self.min } else { other.min };
        if min <= max { Some(max) } else { None }
    }
}

/// The newest state of a broker that an agent has seen. A broker that is behind it was started from an old
/// copy of its database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct HighWater {
    /// The broker's incarnation: grows with every start.
    #[serde(default)]
    pub incarnation: u64,
    /// The newest entry of the broker's journal.
    #[serde(default)]
    pub journal: u64,
    /// The broker's mark over both: only it can make one, so that an agent cannot claim to have seen what
    /// never was.
    #[serde(default)]
    pub proof: u64,
}

/// What the agent sends first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Versions the agent speaks.
    pub protocol: ProtocolRange,
    /// Features the agent has, by name.
    #[serde(default)]
    pub features: Vec<String>,
    /// The agent's version, for people.
    #[serde(default)]
    pub version: String,
    /// Random for each start of the agent: a newer one evicts the older session.
    pub boot_nonce: u64,
    /// The deployment the agent belongs to; empty before its first session.
    #[serde(default)]
    pub deployment: String,
    /// The newest broker state the agent has seen.
    #[serde(default)]
    pub seen: HighWater,
    /// What the node has.
    pub inventory: Inventory,
    /// Every attempt part that the node has on its disk.
    #[serde(default)]
    pub observed: Vec<ObservedPart>,
    /// Where its spool stands; none from an agent that keeps no mark of its usage events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spool: Option<SpoolHead>,
}

/// One attempt part on a node's disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedPart {
    /// The attempt.
    pub attempt: AttemptId,
    /// The part's rank in its gang.
    #[serde(default)]
    pub rank: u32,
    /// How far it is.
    pub phase: PartPhase,
}

/// The broker's yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version to speak.
    pub protocol: u16,
    /// Features both have.
    #[serde(default)]
    pub features: Vec<String>,
    /// The deployment's id.
    pub deployment: String,
    /// Who the agent is.
    pub node: NodeId,
    /// This session's epoch; every message of an older one is refused.
    pub epoch: u64,
    /// Where the broker stands.
    pub at: HighWater,
    /// How often to send [`ToBroker::Renew`].
    pub renew_every: DurationMs,
    /// What the broker is doing.
    #[serde(default)]
    pub mode: BrokerMode,
    /// The newest event of this node's spool that the broker has.
    #[serde(default)]
    pub acked: u64,
    /// Behind which number the broker's mark of the node's usage events begins; none from one that keeps none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage_after: Option<u64>,
}

/// What the broker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BrokerMode {
    /// Its work.
    #[default]
    Normal,
    /// It was started from an old copy: it renews every lease and changes nothing.
    Recovery,
}

/// The broker's no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("the broker refused this session: {message}")]
pub struct Refused {
    /// Why.
    pub code: RefusalCode,
    /// For people: what to do.
    #[serde(default)]
    pub message: String,
    /// How long to wait before the next try; none means never.
    #[serde(default)]
    pub retry_after: Option<DurationMs>,
}

/// Why a session was refused or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCode {
    /// No common protocol version.
    Protocol,
    /// The node was revoked, or its instance was ended.
    Revoked,
    /// Another agent with the same identity said hello later.
    Superseded,
    /// The agent belongs to another deployment.
    ForeignDeployment,
    /// The message broke the protocol.
    Malformed,
    /// The broker cannot take it now.
    Busy,
}

/// A node's right to run its part of an attempt, with all it needs for that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The attempt.
    pub attempt: AttemptId,
    /// The attempt's number at its task, from 1.
    pub number: u32,
    /// The job.
    pub job: JobId,
    /// The task's index.
    #[serde(default)]
    pub task: u32,
    /// This part's rank in its gang, from 0.
    #[serde(default)]
    pub rank: u32,
    /// How far the part should be.
    pub want: WantedPhase,
    /// How long the part may run without a renewal.
    pub ttl: DurationMs,
    /// What the part was given.
    pub allocation: Allocation,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Ended after this long.
    pub time_limit: DurationMs,
    /// How it is asked to stop.
    pub checkpoint: Checkpoint,
    /// Host names of the gang's nodes by rank; one for a single node.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Datasets that have to be on the node before the part is ready to start.
    #[serde(default)]
    pub inputs: Vec<Input>,
}

/// A dataset that a part reads. Its name names its transfer to the part as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Its name.
    pub dataset: DatasetName,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content, where that is known.
    #[serde(default)]
    pub sha256: Option<ContentHash>,
    /// Where it is read; none where the broker's settings do not say so any more.
    #[serde(default)]
    pub source: Option<DataSource>,
}

/// Everything that should be true at a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Desired {
    /// Leases, ordered by attempt. A part on the node that is not listed is stopped, its end reported, and
    /// its folder removed once that is acknowledged.
    #[serde(default)]
    pub leases: Vec<Lease>,
    /// The newest renewal number the broker had received when it wrote this.
    #[serde(default)]
    pub renewal: u64,
    /// Where the broker stands; the agent keeps the highest it has seen.
    #[serde(default)]
    pub at: HighWater,
}

/// Something that happened at a node. Spooled on its disk until acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum AgentEvent {
    /// The part's folder is made; it waits for the word to start.
    Prepared {
        /// The attempt.
        attempt: AttemptId,
        /// The part.
        rank: u32,
    },
    /// The program runs.
    Started {
        /// The attempt.
        attempt: AttemptId,
        /// The part.
        rank: u32,
    },
    /// The part ran from `from_ms` to `to_ms`, counted from its start. Slices of a part tile its run.
    Usage {
        /// The attempt.
        attempt: AttemptId,
        /// The part.
        rank: u32,
        /// Begin of the slice.
        from_ms: u64,
        /// End of the slice, exclusive.
        to_ms: u64,
    },
    /// Bytes of an input came to the node for the part, from `from_bytes` to `to_bytes` of it.
    Moved {
        /// The attempt.
        attempt: AttemptId,
        /// The part.
        rank: u32,
        /// The dataset.
        dataset: DatasetName,
        /// Which download of it for this part, from 0: one that had to begin again moves its bytes again.
        #[serde(default)]
        pass: u32,
        /// First byte.
        from_bytes: u64,
        /// Last byte, exclusive.
        to_bytes: u64,
    },
    /// What the program wrote, standard output and error together.
    Output {
        /// The attempt.
        attempt: AttemptId,
        /// The part.
        rank: u32,
        /// Where in the part's output this begins, in bytes.
        offset: u64,
        /// The bytes; at most [`MAX_OUTPUT_CHUNK`].
        #[serde(with = "serde_bytes")]
        data: Vec<u8>,
    },
    /// The part ended, or never started. Its last `Usage` and `Output` stand before this in the spool.
    Ended {
        /// The attempt.
        attempt: AttemptId,
        /// The part.
        rank: u32,
        /// How.
        end: PartEnd,
        /// How long it ran, in milliseconds of CLOCK_BOOTTIME; 0 where it never started.
        ran_ms: u64,
    },
}

/// Most bytes of one [`AgentEvent::Output`]: a frame stays far below the frame limit.
pub const MAX_OUTPUT_CHUNK: usize = 64 * 1024;
/// Most output of one part that is sent to the broker; what follows is cut, and a last line says so.
pub const MAX_OUTPUT: u64 = 64 * 1024 * 1024;

impl AgentEvent {
    /// The attempt it is about.
    #[must_use]
    pub const fn attempt(&self) -> AttemptId {
        match self {
            Self::Prepared { attempt, .. }
            | Self::Started { attempt, .. }
            | Self::Usage { attempt, .. }
            | Self::Moved { attempt, .. }
            | Self::Output { attempt, .. }
            | Self::Ended { attempt, .. } => *attempt,
        }
    }
}

/// From agent to broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum ToBroker {
    /// First message.
    Hello(Box<Hello>),
    /// Asks to extend the leases of these attempts.
    Renew {
        /// Grows by one with each; the agent keeps the sending time of each by CLOCK_BOOTTIME.
        number: u64,
        /// Attempts that have a part on this node.
        #[serde(default)]
        attempts: Vec<AttemptId>,
        /// What the agent says of its usage; none while it cannot.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<UsageStatement>,
    },
    /// Spooled events in order.
    Events {
        /// The number of the first; they follow without a gap.
        first: u64,
        /// The events.
        events: Vec<AgentEvent>,
    },
    /// The provider says that this instance will be taken back.
    InterruptionNotice {
        /// How long is left.
        left: DurationMs,
    },
}

/// From broker to agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum ToAgent {
    /// Answer to hello.
    Welcome(Box<Welcome>),
    /// No, or no more.
    Refused(Refused),
    /// What should be true.
    Desired(Desired),
    /// Answer to a renewal.
    Renewed {
        /// The number of the renewal.
        number: u64,
        /// Attempts whose leases are extended.
        #[serde(default)]
        attempts: Vec<AttemptId>,
    },
    /// Every event up to this number is durable at the broker.
    Acked {
        /// The number.
        through: u64,
    },
    /// The broker is about to restart.
    Goaway {
        /// When to dial again.
        reconnect_in: DurationMs,
    },
}

/// Header of a stream that the broker opens to follow the output of a part. The agent answers
/// [`StreamReply`], then raw bytes from `offset`, then FIN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "stream")]
pub enum StreamHeader {
    /// Output of one part.
    Output {
        /// The attempt.
        attempt: AttemptId,
        /// The part.
        rank: u32,
        /// First byte wanted.
        #[serde(default)]
        offset: u64,
        /// Whether to go on until the part ends.
        #[serde(default)]
        follow: bool,
    },
}

/// Answer to a stream's header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "reply")]
pub enum StreamReply {
    /// Bytes follow.
    Accepted,
    /// None follow.
    Rejected {
        /// Why, for people.
        message: String,
    },
}

/// What a machine sends to become a node, on a connection with the enrolment ALPN.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// The join token.
    pub token: String,
    /// The machine's public key and proof of possession: a PKCS#10 request in DER.
    #[serde(with = "serde_bytes")]
    pub certificate_request: Vec<u8>,
    /// The machine's host name.
    #[serde(default)]
    pub hostname: String,
}

impl std::fmt::Debug for EnrolRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnrolRequest")
            .field("token", &"<redacted>")
            .field("hostname", &self.hostname)
            .finish_non_exhaustive()
    }
}

/// The broker's answer to an enrolment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "reply")]
pub enum EnrolReply {
    /// The machine is a node now.
    Enrolled {
        /// Which.
        node: NodeId,
        /// The deployment's id.
        deployment: String,
        /// Its certificate in DER.
        #[serde(with = "serde_bytes")]
        certificate: Vec<u8>,
        /// The deployment's CA certificate in DER.
        #[serde(with = "serde_bytes")]
        ca: Vec<u8>,
    },
    /// No.
    Refused {
        /// Why.
        code: EnrolRefusal,
        /// For people: what to do.
        #[serde(default)]
        message: String,
    },
}

/// Why an enrolment was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EnrolRefusal {
    /// No such token here: mistyped, or another deployment's.
    UnknownToken,
    /// The token's time is over.
    Expired,
    /// Another machine used it.
    Used,
    /// The instance it was made for is not wanted any more: the machine should power off.
    Unwanted,
    /// The request could not be read.
    Malformed,
    /// The broker cannot do it now.
    Busy,
}
