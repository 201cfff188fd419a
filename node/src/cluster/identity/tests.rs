use super::*;
use crate::cluster::feature_level::Level;

fn node(name: &str, id: u64, instance: &str) -> Identity {
    Identity::new(
        name.into(),
        id,
        instance.into(),
        format!("boot-of-{instance}"),
        Levels::OURS,
    )
}

/// A later start of the same data directory, or a copy of it.
fn another_start(of: &Identity) -> Identity {
    let known = of.known.read();
    let again = Identity::new(
        of.cluster_name.clone(),
        of.node_id,
        of.instance_id.clone(),
        "another-boot".into(),
        Levels::OURS,
    );
    let cluster_id = known.cluster_id.as_deref().unwrap_or_default();
    again.learn(cluster_id, known.instances.clone(), known.at);
    again
}

fn call(from: &Identity, to_id: u64, to: &Identity) -> Result<u64, MistakenIdentity> {
    call_with_disk(from, to_id, to, Held::default())
}

fn call_with_disk(
    from: &Identity,
    to_id: u64,
    to: &Identity,
    held: Held,
) -> Result<u64, MistakenIdentity> {
    let mut metadata = MetadataMap::new();
    from.sign(to_id, &mut metadata).expect("it takes part");
    to.verify(&metadata, held)
}

fn known(instances: &[(u64, &str)]) -> BTreeMap<u64, String> {
    instances
        .iter()
        .map(|(id, instance)| (*id, (*instance).to_owned()))
        .collect()
}

fn at(term: u64, index: u64) -> Option<LogId> {
    Some(LogId::new_term_index(term, index))
}

#[test]
fn blank_nodes_of_one_cluster_may_talk() {
    assert_eq!(call(&node("a", 1, "x"), 2, &node("a", 2, "y")), Ok(1));
}

#[test]
fn foreign_cluster_is_refused() {
    let (one, two) = (node("a", 1, "x"), node("b", 2, "y"));
    assert!(matches!(
        call(&one, 2, &two),
        Err(MistakenIdentity::ClusterName { .. })
    ));
    let (one, two) = (node("a", 1, "x"), node("a", 2, "y"));
    one.learn("first", known(&[]), None);
    two.learn("second", known(&[]), None);
    assert!(matches!(
        call(&one, 2, &two),
        Err(MistakenIdentity::ClusterId { .. })
    ));
}

#[test]
fn call_for_another_node_is_refused() {
    assert!(matches!(
        call(&node("a", 1, "x"), 3, &node("a", 2, "y")),
        Err(MistakenIdentity::NodeId {
            meant: 3,
            node_id: 2
        })
    ));
}

#[test]
fn node_that_lost_its_disk_is_refused_in_both_directions() {
    let one = node("a", 1, "x");
    one.learn("c", known(&[(1, "x"), (2, "y")]), at(1, 9));
    let wiped = node("a", 2, "new");
    assert!(matches!(
        call(&wiped, 1, &one),
        Err(MistakenIdentity::Instance { node_id: 2, .. })
    ));
    assert!(matches!(
        call(&one, 2, &wiped),
        Err(MistakenIdentity::Instance { node_id: 2, .. })
    ));
}

#[test]
fn removed_node_is_told_so_and_nobody_else() {
    let one = node("a", 1, "x");
    one.set_member_since(at(1, 1));
    one.learn("c", known(&[(1, "x"), (2, REMOVED)]), at(1, 9));
    let removed = node("a", 2, "y");
    removed.set_member_since(at(1, 1));
    removed.learn("c", known(&[(1, "x"), (2, "y")]), at(1, 2));
    let mistake = call(&removed, 1, &one).expect_err("a removed node is refused");
    removed.note_refusal(&mistake.to_status());
    assert!(removed.is_removed());
    let mistake = call(&one, 2, &removed).expect_err("a removed node is not meant");
    one.note_refusal(&mistake.to_status());
    assert!(!one.is_removed());
}

#[test]
fn a_stale_peer_does_not_shut_out_a_node_that_was_added_again() {
    // Node 3 was removed at 9, and added again under its id at 12, with another data directory.
    let stale = node("a", 2, "y");
    stale.learn("c", known(&[(2, "y"), (3, REMOVED)]), at(1, 9));
    let back = node("a", 3, "new");
    back.learn("c", known(&[(2, "y"), (3, "new")]), at(1, 12));
    back.set_member_since(at(1, 12));
    assert_eq!(call(&back, 2, &stale), Ok(3));
    assert_eq!(call(&stale, 3, &back), Ok(2));
    // What such a peer says of it, by whatever way, is old.
    back.heard_removed(at(1, 9));
    assert!(!back.is_removed());
    // Before it heard of the removal it knew the lost data directory.
    stale.learn("c", known(&[(2, "y"), (3, "old")]), at(1, 5));
    assert_eq!(call(&back, 2, &stale), Ok(3));
    assert_eq!(call(&stale, 3, &back), Ok(2));
    // A newer word counts, also one of a later term that is shorter.
    back.heard_removed(at(2, 11));
    assert!(back.is_removed());
    // And it is undone when it is added once more.
    back.set_member_since(at(2, 15));
    assert!(!back.is_removed());
}

#[test]
fn a_blank_node_that_waits_to_be_added_again_is_not_removed() {
    let blank = node("a", 3, "new");
    blank.heard_removed(at(1, 9));
    assert!(!blank.is_removed());
}

#[test]
fn a_copy_is_refused_by_name_and_stops() {
    let one = node("a", 1, "x");
    one.learn("c", known(&[(1, "x"), (2, "y")]), at(1, 2));
    let two = node("a", 2, "y");
    two.learn("c", known(&[(1, "x"), (2, "y")]), at(1, 2));
    let copy = another_start(&two);
    assert_eq!(call(&two, 1, &one), Ok(2));
    let new = call(&copy, 1, &one).expect_err("another process has to be asked first");
    assert_eq!(new, MistakenIdentity::NewProcess { node_id: 2 });
    copy.note_refusal(&new.to_status());
    assert_eq!(copy.stopped(), None);
    let suspects = one.suspects();
    assert_eq!(suspects.len(), 1);
    one.confirm(&suspects[0], Some((&two.instance_id, &two.boot_id)));
    let refused = call(&copy, 1, &one).expect_err("a copy is refused");
    assert_eq!(refused, MistakenIdentity::Copy { node_id: 2 });
    copy.note_refusal(&refused.to_status());
    let why = copy.stopped().expect("it stops");
    assert!(
        why.contains("a copy of the data directory of node 2"),
        "{why}"
    );
    assert!(copy.sign(1, &mut MetadataMap::new()).is_err());
    assert_eq!(call(&two, 1, &one), Ok(2));
    assert_eq!(two.stopped(), None);
}

#[test]
fn a_disk_that_was_put_back_is_refused_by_itself_and_by_others() {
    let one = node("a", 1, "x");
    one.learn("c", known(&[(1, "x"), (2, "y")]), at(1, 2));
    let said = Acknowledged {
        term: 3,
        index: 50,
        committed: 40,
    };
    assert!(one.witness(2, said));
    let two = node("a", 2, "y");
    two.learn("c", known(&[(1, "x"), (2, "y")]), at(1, 2));
    let whole = Held { term: 3, index: 50 };
    assert_eq!(call_with_disk(&one, 2, &two, whole), Ok(1));
    assert_eq!(one.check_candidate(2, whole), Ok(()));
    let old = Held { term: 3, index: 20 };
    let refused = call_with_disk(&one, 2, &two, old).expect_err("it forgot");
    let text = refused.to_string();
    assert!(text.contains("Never roll a node back"), "{text}");
    // The caller is not meant by it.
    one.note_refusal(&refused.to_status());
    assert_eq!(one.stopped(), None);
    let refused = one
        .check_candidate(2, old)
        .expect_err("it stands for election");
    // The call may have been on its way since before it acknowledged that.
    two.note_refusal(&refused.to_status());
    assert!(two.is_claimed());
    two.judge_claim(whole);
    assert_eq!(two.stopped(), None);
    two.note_refusal(&refused.to_status());
    two.judge_claim(old);
    assert!(two.stopped().is_some());
    // Added again with an empty data directory, it owes nothing.
    one.learn("c", known(&[(1, "x"), (2, "z")]), at(1, 60));
    assert_eq!(one.check_candidate(2, Held::default()), Ok(()));
}

#[test]
fn node_that_is_too_old_is_told_so_and_ends_for_members_alone() {
    let one = node("a", 1, "x");
    one.learn("c", known(&[(1, "x"), (2, "y")]), at(1, 2));
    let mut two = node("a", 2, "y");
    two.level = FeatureLevel::new(Levels::from_wire(1, 1));
    two.learn("c", known(&[(1, "x"), (2, "y")]), at(1, 2));
    assert_eq!(call(&two, 1, &one), Ok(2));
    one.level.learn(Level::new(2));
    let refused = call(&two, 1, &one).expect_err("it cannot read what is written");
    two.note_refusal(&refused.to_status());
    assert!(two.level.unfit().is_some());
    // The same, found out by itself; a process that is not known to be the member is not believed.
    let copy = another_start(&one);
    copy.level.learn(Level::new(2));
    let two = node("a", 2, "y");
    two.learn("c", known(&[(1, "x"), (2, "y")]), at(1, 2));
    assert_eq!(call(&one, 2, &two), Ok(1));
    let mut old = two;
    old.level = FeatureLevel::new(Levels::from_wire(1, 1));
    let refused = call(&copy, 2, &old).expect_err("another process has to be asked first");
    assert_eq!(refused, MistakenIdentity::NewProcess { node_id: 1 });
    assert_eq!(old.level.unfit(), None);
    let refused = call(&one, 2, &old).expect_err("the member writes what it cannot read");
    assert!(matches!(refused, MistakenIdentity::Level(_)), "{refused}");
    assert!(old.level.unfit().is_some());
}

#[test]
fn what_has_to_outlive_a_restart_is_news_once() {
    let one = node("a", 1, "x");
    one.learn("c", known(&[(2, "y")]), at(1, 2));
    assert!(one.take_news().is_none());
    one.witness(2, Acknowledged::default());
    let news = one.take_news().expect("something was acknowledged");
    assert_eq!(news.witnessed.len(), 1);
    assert!(one.take_news().is_none());
    one.put_news_back();
    assert!(one.take_news().is_some());
    // Whoever ran beside a copy may run alone later.
    let two = node("a", 2, "y");
    two.stop("a copy", Lasting::No);
    assert_eq!(two.take_news().and_then(|news| news.stopped), None);
    let three = node("a", 3, "z");
    three.stop("parted", Lasting::Yes);
    assert!(three.take_news().is_some_and(|news| news.stopped.is_some()));
}

#[test]
fn unsigned_call_is_refused() {
    assert!(matches!(
        node("a", 1, "x").verify(&MetadataMap::new(), Held::default()),
        Err(MistakenIdentity::Missing { .. })
    ));
}
