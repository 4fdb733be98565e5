//! What the agent must not forget: the newest state of a broker that it has seen, and how often it started.
//!
//! It is one small file, synced before anything relies on it: an agent that forgot would follow a broker that
//! was started from an old copy.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use spillway_tunnel::protocol::HighWater;

use super::AgentError;
use crate::part::{read_json, to_json};

/// The file's content.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Memory {
    /// How many times an agent started here.
    #[serde(default)]
    pub(super) generation: u32,
    /// The deployment that the node belongs to; empty before its first session.
    #[serde(default)]
    pub(super) deployment: String,
    /// The newest state of a broker that was seen.
    #[serde(default)]
    pub(super) seen: HighWater,
}

impl Memory {
    /// Reads the memory, counts this start and writes it back.
    pub(super) fn open(path: &Path) -> Result<Self, AgentError> {
        let refused = |source| AgentError::Folder { path: path.to_path_buf(), source };
        let mut memory: Self = read_json(path).map_err(refused)?.unwrap_or_default();
        memory.generation = memory.generation.saturating_add(1);
        memory.save(path).map_err(refused)?;
        Ok(memory)
    }

    /// Writes it down, durable on return.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let fresh: PathBuf = path.with_added_extension("new");
        let mut file = File::create(&fresh)?;
        file.write_all(&to_json(self))?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }

    /// Takes in where a broker stands.
    pub(super) fn see(&mut self, at: HighWater) {
        if (at.incarnation, at.journal) > (self.seen.incarnation, self.seen.journal) {
            self.seen = at;
        }
    }

    /// Whether a broker that stands there was started from an old copy of its database.
    pub(super) const fn is_ahead_of(&self, at: HighWater) -> bool {
        at.incarnation < self.seen.incarnation || at.journal < self.seen.journal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(incarnation: u64, journal: u64) -> HighWater {
        HighWater { incarnation, journal, proof: incarnation + journal }
    }

    #[test]
    fn starts_are_counted_and_the_newest_state_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.json");
        let mut memory = Memory::open(&path).unwrap();
        assert_eq!(memory.generation, 1);
        for (broker, newest) in [(at(2, 10), at(2, 10)), (at(2, 9), at(2, 10)), (at(1, 99), at(2, 10))] {
            memory.see(broker);
            assert_eq!(memory.seen, newest);
        }
        memory.save(&path).unwrap();
        let memory = Memory::open(&path).unwrap();
        assert_eq!((memory.generation, memory.seen), (2, at(2, 10)));
    }

    #[test]
    fn an_old_copy_is_recognised() {
        let memory = Memory { seen: at(3, 100), ..Memory::default() };
        for (broker, behind) in [
            (at(3, 100), false),
            (at(4, 100), false),
            (at(4, 101), false),
            (at(4, 99), true),
            (at(2, 200), true),
        ] {
            assert_eq!(memory.is_ahead_of(broker), behind, "{broker:?}");
        }
    }
}
