//! [`Boots`]: which process each peer is. Two processes on copies of one data directory have its ids in common, and not the id of their start.
//!
//! Pure. The address of the member decides: who answers there is the node, and whoever calls under its name from elsewhere is a copy.

use std::collections::{BTreeMap, BTreeSet};

/// Copies that are remembered for one node.
const COPIES_MAX: usize = 16;
/// A node whose address answers nothing so often is believed: it can be heard, and not reached.
const UNANSWERED_MAX: u32 = 4;

/// What to do with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    Known,
    /// Another process than before: who answers at the address has to be asked first.
    New,
    /// A process that is not the one at the address.
    Copy,
}

/// A process that called in the name of a node, and is not the one that was known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Suspect {
    pub(crate) node_id: u64,
    pub(crate) boot_id: String,
}

#[derive(Debug, Default)]
struct Peer {
    instance_id: String,
    boot_id: String,
    /// Another process that called.
    suspect: Option<String>,
    unanswered: u32,
    copies: BTreeSet<String>,
}

/// By node.
#[derive(Debug, Default)]
pub(crate) struct Boots {
    peers: BTreeMap<u64, Peer>,
}

impl Boots {
    /// A call of a process that says it is `node_id`.
    pub(crate) fn call(&mut self, node_id: u64, instance_id: &str, boot_id: &str) -> Caller {
        let peer = self.peers.entry(node_id).or_default();
        if peer.instance_id != instance_id {
            *peer = Peer {
                instance_id: instance_id.to_owned(),
                boot_id: boot_id.to_owned(),
                ..Peer::default()
            };
        }
        if peer.boot_id == boot_id {
            return Caller::Known;
        }
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::CopyWelcome) {
            return Caller::Known;
        }
        if peer.copies.contains(boot_id) {
            return Caller::Copy;
        }
        peer.suspect = Some(boot_id.to_owned());
        Caller::New
    }

    /// Who has to be asked about, at the address of its node.
    pub(crate) fn to_ask(&self) -> Vec<Suspect> {
        let peers = self.peers.iter();
        peers
            .filter_map(|(node_id, peer)| {
                Some(Suspect {
                    node_id: *node_id,
                    boot_id: peer.suspect.clone()?,
                })
            })
            .collect()
    }

    /// The process that answers at the node's address, asked because of `suspect`. True if that is another one.
    ///
    /// The answer says nothing of a process that called after it was asked for: the node may have been started again in between.
    pub(crate) fn answered(&mut self, asked: &Suspect, instance_id: &str, boot_id: &str) -> bool {
        let Some(peer) = self.asked(asked) else {
            return false;
        };
        if peer.instance_id != instance_id {
            return false;
        }
        peer.unanswered = 0;
        peer.suspect = None;
        peer.boot_id = boot_id.to_owned();
        peer.copies.remove(boot_id);
        let is_copy = asked.boot_id != boot_id;
        if is_copy && peer.copies.len() < COPIES_MAX {
            peer.copies.insert(asked.boot_id.clone());
        }
        is_copy
    }

    /// Nobody answers at the node's address.
    pub(crate) fn silent(&mut self, asked: &Suspect) {
        let Some(peer) = self.asked(asked) else {
            return;
        };
        peer.unanswered += 1;
        if peer.unanswered >= UNANSWERED_MAX {
            peer.unanswered = 0;
            if let Some(suspect) = peer.suspect.take() {
                peer.boot_id = suspect;
            }
        }
    }

    /// The peer, if it is still this process that is to be asked about.
    fn asked(&mut self, asked: &Suspect) -> Option<&mut Peer> {
        let peer = self.peers.get_mut(&asked.node_id)?;
        (peer.suspect.as_ref() == Some(&asked.boot_id)).then_some(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks about whoever is suspected, and `process` answers at the address. Whether the suspect is a copy.
    fn ask(boots: &mut Boots, process: &str) -> bool {
        let suspects = boots.to_ask();
        assert_eq!(suspects.len(), 1);
        boots.answered(&suspects[0], "i", process)
    }

    #[test]
    fn a_restarted_node_is_known_again_once_its_address_answers() {
        let mut boots = Boots::default();
        assert_eq!(boots.call(2, "i", "a"), Caller::Known);
        assert_eq!(boots.call(2, "i", "b"), Caller::New);
        assert!(!ask(&mut boots, "b"));
        assert_eq!(boots.call(2, "i", "b"), Caller::Known);
        assert!(boots.to_ask().is_empty());
        // What the dead process had sent arrives late.
        assert_eq!(boots.call(2, "i", "a"), Caller::New);
        assert!(ask(&mut boots, "b"));
        assert_eq!(boots.call(2, "i", "b"), Caller::Known);
    }

    #[test]
    fn an_answer_says_nothing_of_a_process_that_called_after_the_question() {
        let mut boots = Boots::default();
        boots.call(2, "i", "a");
        boots.call(2, "i", "b");
        let question = boots.to_ask();
        // While the question is on its way, the node is started again, and the new process calls before the old one's answer is here.
        assert_eq!(boots.call(2, "i", "c"), Caller::New);
        assert!(!boots.answered(&question[0], "i", "b"));
        boots.silent(&question[0]);
        assert_eq!(boots.call(2, "i", "c"), Caller::New);
        assert!(!ask(&mut boots, "c"));
        assert_eq!(boots.call(2, "i", "c"), Caller::Known);
    }

    #[test]
    fn a_copy_is_refused_whichever_of_the_two_called_first() {
        for first in ["node", "copy"] {
            let mut boots = Boots::default();
            assert_eq!(boots.call(2, "i", first), Caller::Known);
            let other = if first == "node" { "copy" } else { "node" };
            assert_eq!(boots.call(2, "i", other), Caller::New);
            ask(&mut boots, "node");
            // Whoever was first meets the other's call.
            assert_eq!(boots.call(2, "i", "node"), Caller::Known);
            if boots.call(2, "i", "copy") == Caller::New {
                assert!(ask(&mut boots, "node"));
            }
            assert_eq!(boots.call(2, "i", "copy"), Caller::Copy);
            assert_eq!(boots.call(2, "i", "node"), Caller::Known);
        }
    }

    #[test]
    fn a_node_that_can_be_heard_and_not_reached_is_believed_in_the_end() {
        let mut boots = Boots::default();
        boots.call(2, "i", "a");
        for _ in 0..UNANSWERED_MAX {
            assert_eq!(boots.call(2, "i", "b"), Caller::New);
            let suspects = boots.to_ask();
            boots.silent(&suspects[0]);
        }
        assert_eq!(boots.call(2, "i", "b"), Caller::Known);
    }

    #[test]
    fn a_new_data_directory_begins_anew() {
        let mut boots = Boots::default();
        boots.call(2, "i", "a");
        assert_eq!(boots.call(2, "j", "b"), Caller::Known);
    }
}
