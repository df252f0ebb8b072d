//! One bucket: its members, those that wait for a place, and who has been asked whether it is still there.

use std::time::Instant;

use super::{Contact, PING_WAIT, REPLACEMENTS_MAX};
use crate::id::NodeId;

#[derive(Debug, Clone)]
pub(super) struct Bucket<T> {
    /// Least recently seen first.
    pub(super) members: Vec<Contact<T>>,
    /// Least recently seen first, at most [`REPLACEMENTS_MAX`].
    pub(super) waiting: Vec<Contact<T>>,
    /// When the first member was asked whether it is still there.
    asked: Option<Instant>,
}

impl<T> Default for Bucket<T> {
    fn default() -> Self {
        Self { members: Vec::new(), waiting: Vec::new(), asked: None }
    }
}

impl<T> Bucket<T> {
    /// Takes a member out.
    pub(super) fn take(&mut self, peer: &NodeId) -> Option<Contact<T>> {
        // The peers heard of most often are at the end.
        let at = self.members.iter().rposition(|contact| contact.id == *peer)?;
        if at == 0 {
            self.asked = None;
        }
        Some(self.members.remove(at))
    }

    /// Puts a member back that could not be replaced: the next one to be asked.
    pub(super) fn keep(&mut self, contact: Contact<T>) {
        self.asked = None;
        self.members.insert(0, contact);
    }

    /// Lets a peer wait, at the cost of the one that has waited longest without being heard of.
    pub(super) fn wait(&mut self, contact: Contact<T>) {
        if let Some(at) = self.waiting.iter().position(|waiting| waiting.id == contact.id) {
            self.waiting.remove(at);
        } else if self.waiting.len() >= REPLACEMENTS_MAX {
            self.waiting.remove(0);
        }
        make_room(&mut self.waiting, REPLACEMENTS_MAX);
        self.waiting.push(contact);
    }

    /// The member to ask whether it is still there, unless it has just been asked.
    pub(super) fn ask(&mut self, now: Instant) -> Option<NodeId> {
        let oldest = self.members.first()?.id;
        if self.asked.is_some_and(|at| now.saturating_duration_since(at) < PING_WAIT) {
            return None;
        }
        self.asked = Some(now);
        Some(oldest)
    }
}

/// Makes room for one more in a list that never holds more than `most`: a vector that grows by itself
/// would keep room for half as many again.
pub(super) fn make_room<T>(contacts: &mut Vec<T>, most: usize) {
    let len = contacts.len();
    if len == contacts.capacity() && len < most {
        contacts.reserve_exact(len.max(4).min(most - len));
    }
}
