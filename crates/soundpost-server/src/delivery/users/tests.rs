//! Who is told what of whom, on the nodes of a cluster.

mod random;
mod world;

use soundpost_protocol::presence::NodeId;

use self::world::{World, user};

/// A world of two nodes in which client 1, on the first node, watches bob and cy and has been told that they are offline.
fn watched() -> World {
    let mut world = World::new(2);
    world.sign_in(0, 1, &user("ada", &["bob", "cy"]));
    world.run();
    assert_eq!(world.told(0), ["1 -bob -cy"]);
    world
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_user_is_online_from_the_first_connection_anywhere_to_the_last() {
    let mut world = watched();
    world.sign_in(1, 2, &user("bob", &[]));
    assert_eq!(world.told(0), NOTHING, "not known here yet");
    world.run();
    assert_eq!(world.told(0), ["1 +bob"]);
    world.sign_in(0, 3, &user("bob", &[]));
    world.run();
    world.sign_out(1, 2);
    world.run();
    world.pass(4000);
    assert_eq!(world.told(0), NOTHING, "one connection is left");
    world.sign_out(0, 3);
    world.run();
    world.pass(1000);
    assert_eq!(world.told(0), NOTHING, "may yet come back");
    world.pass(4000);
    assert_eq!(world.told(0), ["1 -bob"]);
    world.pass(8000);
    assert_eq!((world.told(0), world.told(1)), (vec![], vec![]), "once, and nobody hears of themselves");
}

#[test]
fn the_first_frame_tells_the_truth_of_the_cluster() {
    let mut world = World::new(2);
    world.sign_in(1, 2, &user("bob", &[]));
    world.run();
    world.sign_in(0, 1, &user("ada", &["dan", "bob", "cy"]));
    assert_eq!(world.told(0), NOTHING);
    world.run();
    assert_eq!(world.told(0), ["1 +bob -dan -cy"]);
    world.sign_in(0, 4, &user("eve", &["bob"]));
    assert_eq!(world.told(0), ["4 +bob"], "what this node hears of already it need not ask for");
    world.sign_in(0, 1, &user("ada", &["cy"]));
    assert_eq!(world.told(0), ["1 -cy"], "another list");
    world.sign_out(1, 2);
    world.run();
    world.pass(4000);
    assert_eq!(world.told(0), ["4 -bob"]);
}

#[test]
fn who_comes_to_another_node_in_time_was_never_gone() {
    let mut world = watched();
    world.sign_in(1, 2, &user("bob", &[]));
    world.run();
    assert_eq!(world.told(0), ["1 +bob"]);
    world.sign_out(1, 2);
    world.run();
    world.sign_in(0, 6, &user("eve", &["bob"]));
    assert_eq!(world.told(0), ["6 +bob"], "may yet come back");
    world.sign_in(0, 3, &user("bob", &[]));
    world.run();
    world.pass(4000);
    assert_eq!(world.told(0), NOTHING, "by a reload");
    world.sign_out(0, 3);
    world.sign_in(1, 5, &user("bob", &[]));
    world.run();
    world.kill(1);
    world.run();
    world.sign_in(0, 7, &user("bob", &[]));
    world.run();
    world.pass(8000);
    assert_eq!(world.told(0), NOTHING, "by the end of a node");
}

#[test]
fn the_users_of_a_dead_node_are_offline_after_the_hold() {
    let mut world = watched();
    world.sign_in(1, 2, &user("bob", &[]));
    world.sign_in(1, 3, &user("bob", &[]));
    world.run();
    world.kill(1);
    world.run();
    world.pass(1000);
    assert_eq!(world.told(0), ["1 +bob"]);
    world.pass(4000);
    assert_eq!(world.told(0), ["1 -bob"]);
}

#[test]
fn who_is_not_known_in_time_is_offline_until_heard() {
    let mut world = World::new(2);
    world.sign_in(1, 2, &user("bob", &[]));
    world.sign_in(1, 3, &user("cy", &[]));
    world.run();
    world.withheld = ["bob".to_owned(), "dan".to_owned()].into();
    world.sign_in(0, 1, &user("ada", &["bob", "cy", "dan"]));
    world.run();
    world.pass(1000);
    assert_eq!(world.told(0), NOTHING);
    world.pass(3000);
    assert_eq!(world.told(0), ["1 +cy -bob -dan"]);
    // The machine has given up, too; it is asked again and again.
    world.pass(250);
    world.pass(3000);
    world.pass(250);
    world.withheld.clear();
    world.run();
    assert_eq!(world.told(0), ["1 +bob"]);
    world.sign_out(1, 2);
    world.run();
    world.pass(4000);
    assert_eq!(world.told(0), ["1 -bob"], "it watches in earnest");
}

#[test]
fn what_changes_before_the_first_frame_is_in_it() {
    let mut world = World::new(2);
    world.sign_in(0, 4, &user("eve", &["bob"]));
    world.run();
    world.withheld = ["cy".to_owned()].into();
    world.sign_in(0, 1, &user("ada", &["bob", "cy"]));
    world.sign_in(1, 2, &user("bob", &[]));
    world.run();
    assert_eq!(world.told(0), ["4 -bob", "4 +bob"]);
    world.withheld.clear();
    world.run();
    assert_eq!(world.told(0), ["1 +bob -cy"]);
    world.pass(4000);
    assert_eq!(world.told(0), NOTHING, "and no second time");
}

#[test]
fn who_goes_or_asks_anew_before_the_first_frame_gets_no_old_one() {
    let mut world = World::new(2);
    world.sign_in(0, 1, &user("ada", &["bob", "cy"]));
    world.sign_in(0, 2, &user("eve", &["bob"]));
    world.sign_in(0, 1, &user("ada", &["dan"]));
    world.sign_out(0, 2);
    world.run();
    world.pass(4000);
    assert_eq!(world.told(0), ["1 -dan"]);
    world.sign_in(0, 1, &user("ada", &["bob"]));
    world.sign_in(0, 1, &user("ada", &[]));
    world.run();
    world.pass(8000);
    assert_eq!(world.told(0), NOTHING);
}

#[test]
fn a_sign_in_for_which_the_cluster_was_too_busy_is_made_up_for() {
    let mut world = watched();
    world.withheld = ["bob".to_owned()].into();
    world.sign_in(1, 2, &user("bob", &[]));
    world.sign_in(1, 3, &user("bob", &[]));
    world.run();
    world.pass(3000);
    world.sign_out(1, 3);
    world.withheld.clear();
    world.run();
    world.pass(3000);
    world.run();
    assert_eq!(world.told(0), ["1 +bob"]);
    world.sign_out(1, 2);
    world.run();
    world.pass(8000);
    assert_eq!(world.told(0), ["1 -bob"]);
}

#[test]
fn an_outage_of_the_store_is_not_seen() {
    for is_emptied in [false, true] {
        for order in [[0, 1], [1, 0]] {
            let mut world = watched();
            world.sign_in(1, 2, &user("bob", &[]));
            world.sign_in(0, 3, &user("cy", &[]));
            world.run();
            assert_eq!(world.told(0), ["1 +cy", "1 +bob"]);
            order.iter().for_each(|node| world.disconnect(*node));
            if is_emptied {
                world.store.clear();
            }
            world.pass(8000);
            for node in order {
                world.connect(node);
                world.run();
                world.pass(1000);
            }
            world.run();
            world.pass(20000);
            world.run();
            world.pass(40000);
            assert_eq!(world.told(0), NOTHING, "emptied: {is_emptied}, order: {order:?}");
            world.sign_out(1, 2);
            world.run();
            world.pass(8000);
            assert_eq!(world.told(0), ["1 -bob"]);
        }
    }
}

#[test]
fn a_node_that_is_cut_off_tells_what_it_knows_and_then_what_it_missed() {
    let mut world = watched();
    world.sign_in(1, 2, &user("bob", &[]));
    world.run();
    world.disconnect(0);
    world.sign_out(1, 2);
    world.sign_in(1, 3, &user("dan", &[]));
    world.run();
    world.sign_in(0, 4, &user("eve", &["bob", "dan", "cy"]));
    world.sign_in(0, 5, &user("cy", &[]));
    assert_eq!(world.told(0), ["1 +bob", "4 +bob -dan -cy", "1 +cy", "4 +cy"], "at once");
    world.connect(0);
    world.run();
    assert_eq!(world.told(0), ["4 +dan"]);
    world.pass(5000);
    world.run();
    world.pass(10000);
    assert_eq!(world.told(0), ["1 -bob", "4 -bob"]);
}

#[test]
fn a_node_found_dead_by_mistake_comes_back_unseen() {
    let mut world = watched();
    world.sign_in(1, 2, &user("bob", &[]));
    world.run();
    assert_eq!(world.told(0), ["1 +bob"]);
    world.reap(NodeId(2), NodeId(1));
    world.run();
    world.pass(8000);
    assert_ne!(world.nodes[1].cluster.life(), NodeId(2));
    assert_eq!(world.told(0), NOTHING);
    world.sign_out(1, 2);
    world.run();
    world.pass(8000);
    assert_eq!(world.told(0), ["1 -bob"]);
    // And from a change that is refused.
    world.sign_in(1, 2, &user("dan", &[]));
    world.run();
    let life = world.nodes[1].cluster.life();
    world.disconnect(1);
    world.reap(life, NodeId(1));
    world.renew(1);
    world.connect(1);
    world.run();
    assert!(world.store["dan"].contains_key(&world.nodes[1].cluster.life()));
}

#[test]
fn users_who_cannot_be_watched_cost_the_cluster_nothing() {
    let mut world = World::new(2);
    world.sign_in_as(1, 2, &user("bob", &[]), false);
    world.sign_in_as(1, 3, &user("bob", &[]), false);
    world.run();
    world.sign_out(1, 3);
    assert!(world.store.is_empty() && world.nodes[1].delivery.users_have_left());
    // The setting changes while bob is there.
    world.sign_in(1, 4, &user("bob", &[]));
    world.sign_in(0, 1, &user("ada", &["bob"]));
    world.run();
    assert_eq!(world.told(0), ["1 +bob"]);
    world.sign_out(1, 4);
    world.run();
    world.pass(4000);
    assert_eq!(world.told(0), NOTHING, "the first connection counts, too");
    world.sign_out(1, 2);
    world.run();
    world.pass(8000);
    assert_eq!(world.told(0), ["1 -bob"]);
}

#[test]
fn nothing_is_remembered_for_ever() {
    let mut world = watched();
    world.sign_in(1, 2, &user("bob", &["ada"]));
    world.run();
    let mut subjects = Vec::new();
    world.nodes[1].delivery.add_users(&mut subjects);
    assert_eq!(
        subjects,
        [crate::adapter::Subject::User(world.key("bob"))],
        "bob is here, ada is only watched"
    );
    assert!(!world.nodes[1].delivery.users_have_left());
    world.sign_out(1, 2);
    world.sign_out(0, 1);
    world.run();
    assert!(world.nodes[1].delivery.users_have_left());
    // The hold passes, then the topics linger.
    for milliseconds in [4000, 4000, 6000] {
        world.pass(milliseconds);
        world.run();
    }
    assert!(world.store.values().flat_map(|shares| shares.values()).all(|(_, entries)| entries.is_empty()));
    for node in &world.nodes {
        let users = &node.delivery.users;
        for shard in &users.shards {
            let shard = shard.lock();
            assert_eq!((shard.entries.len(), shard.restless.len()), (0, 0), "{shard:?}");
        }
        assert_eq!((users.overviews.len(), node.delivery.ticker.next()), (0, None));
    }
}
