//! What a plan uses up: every node's profile, the groups' money and the offers' capacity. Every change is logged,
//! so that any tail of them can be taken back.

use crate::fleet::Fleet;
use crate::index::Index;
use crate::layout::{ClassMask, Level, Need};
use crate::profile::{Profile, Reserved};

/// One change, with what was there before.
#[derive(Debug)]
enum Change {
    Profile(usize, Box<Profile>),
    Reserved(usize, Reserved),
    Purse(usize, i64),
    Offer(usize, u32),
}

/// A moment in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Mark(usize);

/// The resources and the money that a plan is laid onto.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// By the node's number.
    pub(crate) profiles: Vec<Profile>,
    /// What each group may still hold, in micros; `i64::MAX` where it has no limit.
    pub(crate) purses: Vec<i64>,
    /// How many instances of each offer may still be launched.
    pub(crate) offers_left: Vec<u32>,
    /// Which profiles are worth a look; true only after [`Self::refresh`].
    pub(crate) index: Index,
    log: Vec<Change>,
    /// What was free where reservations took something, in their order.
    saved: Vec<Level>,
}

impl Board {
    /// Makes a node's profile what it is without a plan. Only while nothing is laid.
    pub(crate) fn set_node(&mut self, fleet: &Fleet, number: usize) {
        self.profiles.resize_with(fleet.numbers(), Profile::default);
        if let Some(machine) = fleet.machine(number) {
            self.profiles[number].copy_from(&machine.base);
        }
        self.index.note_more(number);
    }

    /// Takes all that a node has.
    pub(crate) fn close(&mut self, number: usize) {
        if self.profiles.len() <= number {
            self.profiles.resize_with(number + 1, Profile::default);
        }
        let before = std::mem::replace(&mut self.profiles[number], Profile::closed());
        self.log.push(Change::Profile(number, Box::new(before)));
        self.index.note(number);
    }

    /// Brings the index up to date. To be called after changes, before places are looked for.
    pub(crate) fn refresh(&mut self, fleet: &Fleet, now: i64) {
        self.index.refresh(fleet, &self.profiles, now);
    }

    /// Now.
    pub(crate) const fn mark(&self) -> Mark {
        Mark(self.log.len())
    }

    /// Takes `need` out of a node's profile from `from` until `to`.
    pub(crate) fn reserve(&mut self, number: usize, span: (i64, i64), need: &Need, mask: ClassMask) {
        let reserved = self.profiles[number].reserve(span, (need, mask), &mut self.saved);
        self.log.push(Change::Reserved(number, reserved));
        self.index.note(number);
    }

    /// Takes a hold out of a group's purse.
    pub(crate) fn spend(&mut self, group: usize, micros: i64) {
        let left = self.purses[group];
        if left != i64::MAX {
            self.log.push(Change::Purse(group, left));
            self.purses[group] = left.saturating_sub(micros);
        }
    }

    /// Takes instances out of what an offer has left.
    pub(crate) fn launch(&mut self, offer: usize, count: u32) {
        let left = self.offers_left[offer];
        self.log.push(Change::Offer(offer, left));
        self.offers_left[offer] = left.saturating_sub(count);
    }

    /// Takes back everything since `mark`.
    pub(crate) fn drop_back(&mut self, mark: Mark) {
        while self.log.len() > mark.0 {
            let Some(change) = self.log.pop() else { return };
            match change {
                Change::Profile(number, before) => {
                    self.profiles[number] = *before;
                    self.index.note_more(number);
                }
                Change::Reserved(number, reserved) => {
                    self.profiles[number].take_back(reserved, &mut self.saved);
                    self.index.note_more(number);
                }
                Change::Purse(group, before) => self.purses[group] = before,
                Change::Offer(offer, before) => self.offers_left[offer] = before,
            }
        }
    }
}
