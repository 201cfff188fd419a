//! A database of which no node has a sound copy is brought back by what an operator says counts. As long as a sound copy is left, or may be, this is
//! refused: pages come from there.

use halite_proto::v1;
use halite_proto::v1::repair_database_request::Keep as Wanted;

use super::Cluster;
use super::better_off::ask;
use super::error::ClusterError;
use super::role::Role;
use crate::database::{Health, Keep, Unfinished};

impl Cluster {
    /// Brings back a database of this primary.
    ///
    /// # Errors
    /// This node is not the primary, the database needs no repair here, a sound copy is left or may be, or what is to count cannot be had.
    pub(crate) async fn keep(
        &self,
        name: &str,
        keep: Wanted,
        force: bool,
    ) -> Result<v1::RepairDatabaseResponse, v1::Error> {
        let Role::Primary { term } = self.role() else {
            return Err(self.not_primary().to_wire());
        };
        let database = self.shared().database(name).map_err(|e| e.to_wire())?;
        let begun = Unfinished::of(&database.spec().path);
        let goes_on = keep == Wanted::File && begun.is_some();
        if let Some(why) = refusal(name, &database.status().health).filter(|_| !goes_on) {
            return Err(ClusterError::invalid(why).to_wire());
        }
        self.no_sound_copy(name).await.map_err(|e| e.to_wire())?;
        let keep = match keep {
            Wanted::File => Keep::File {
                leadership: self.shared().leadership(term),
                force,
            },
            Wanted::Log => Keep::Log,
            Wanted::Unspecified => {
                let why = "say what counts: the file or the log".to_owned();
                return Err(ClusterError::invalid(why).to_wire());
            }
        };
        let kept = database.keep(keep).await.unwrap_or_else(|_| {
            Err(ClusterError::unavailable("the database is being closed".into()).to_wire())
        })?;
        let (copy, not_copied) = match kept.other {
            Ok(path) => (path.display().to_string(), String::new()),
            Err(why) => (String::new(), why),
        };
        Ok(v1::RepairDatabaseResponse {
            txid: kept.applied.position.txid.get(),
            node_id: self.identity().node_id,
            copy,
            not_copied,
        })
    }

    /// Every other member says that its copy needs repair as well.
    async fn no_sound_copy(&self, name: &str) -> Result<(), ClusterError> {
        let own_id = self.identity().node_id;
        let members = self.topology().members.into_iter();
        let asked = members
            .filter(|m| m.node_id != own_id)
            .map(|member| async move {
                let said = ask(self, &member.addr).await;
                sound_there(name, &member, said.as_ref())
            });
        let answers = futures::future::join_all(asked).await;
        match answers.into_iter().flatten().next() {
            Some(why) => Err(ClusterError::invalid(format!(
                "database {name:?} is not repaired in this way: {why}"
            ))),
            None => Ok(()),
        }
    }
}

/// Why a database of the primary is not to be brought back.
fn refusal(name: &str, health: &Health) -> Option<String> {
    match health {
        Health::Fine => Some(format!(
            "database {name:?} needs no repair: the primary has a sound copy, and a node whose copy is not is repaired from it by itself"
        )),
        Health::Behind { why, .. } => Some(format!(
            "database {name:?} needs no repair: it is behind, and tries again by itself: {why}"
        )),
        Health::NeedsRepair { .. } | Health::Parked { .. } => None,
    }
}

/// Why the copy of a member keeps others from being given up; `None` if it needs repair itself, or there is none.
fn sound_there(
    name: &str,
    member: &v1::MemberInfo,
    said: Option<&v1::NodeStatus>,
) -> Option<String> {
    let (id, addr) = (member.node_id, &member.addr);
    let Some(said) = said.filter(|said| said.node_id == id) else {
        return Some(format!(
            "node {id} at {addr} does not answer and may have a sound copy: start it, or run `halite member remove {id}` if it is gone for good"
        ));
    };
    let copy = said.databases.iter().find(|copy| copy.name == name)?;
    match (copy.needs_repair, copy.trouble.is_empty(), member.voter) {
        (true, ..) => None,
        (false, true, true) => Some(format!(
            "node {id} at {addr} has a sound copy: it takes over by itself, and this node is repaired from it"
        )),
        (false, true, false) => Some(format!(
            "node {id} at {addr} has a sound copy: run `halite member promote {id}`, it takes over then, and this node is repaired from it"
        )),
        (false, false, _) => Some(format!(
            "node {id} at {addr} may have a sound copy, once this is over: {}",
            copy.trouble
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_given_up_only_if_every_member_says_that_its_own_needs_repair() {
        let copy = |trouble: &str, needs_repair| v1::DatabaseStatus {
            name: "app".into(),
            trouble: trouble.into(),
            needs_repair,
            ..v1::DatabaseStatus::default()
        };
        let node = |node_id, databases| {
            Some(v1::NodeStatus {
                node_id,
                databases,
                ..v1::NodeStatus::default()
            })
        };
        let cases = [
            (None, true, "does not answer"),
            (node(3, vec![copy("x", true)]), true, "does not answer"),
            (node(2, vec![copy("", false)]), true, "takes over by itself"),
            (node(2, vec![copy("", false)]), false, "member promote 2"),
            (
                node(2, vec![copy("disk full", false)]),
                true,
                "once this is over: disk full",
            ),
            (node(2, vec![copy("x", true)]), true, ""),
            (node(2, vec![]), true, ""),
        ];
        for (said, voter, expected) in cases {
            let member = v1::MemberInfo {
                node_id: 2,
                addr: "b:7420".into(),
                voter,
            };
            let why = sound_there("app", &member, said.as_ref()).unwrap_or_default();
            assert!(why.contains(expected), "{said:?}: {why}");
            assert_eq!(why.is_empty(), expected.is_empty(), "{said:?}: {why}");
        }
    }
}
