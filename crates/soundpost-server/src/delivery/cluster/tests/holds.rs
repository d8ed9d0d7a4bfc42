//! Users whose last connection has left, and who may come back unseen.

use super::{world::World, *};

#[test]
fn who_is_held_may_come_back_on_any_node() {
    let mut world = World { hold: Duration::from_secs(3), ..World::new() };
    world.join((0, 0), ROOM, Some("ada")).unwrap();
    world.join((1, 1), ROOM, Some("bob")).unwrap();
    world.settle();
    world.heard((0, 0), ROOM);
    world.leave((1, 1), ROOM);
    world.join((0, 3), ROOM, Some("bob")).unwrap();
    world.settle();
    world.pass(5);
    assert_eq!(world.heard((0, 0), ROOM), [""; 0], "back on the other node");
    world.leave((0, 3), ROOM);
    world.join((0, 5), ROOM, Some("bob")).unwrap();
    world.settle();
    world.leave((0, 5), ROOM);
    world.join((0, 5), ROOM, Some("bob")).unwrap();
    world.settle();
    assert!(world.client((0, 5), ROOM).has_entered(), "the same connection");
    world.pass(5);
    assert_eq!(world.heard((0, 0), ROOM), [""; 0], "back on this node");
    world.leave((0, 5), ROOM);
    world.settle();
    assert_eq!(world.heard((0, 0), ROOM), [""; 0], "not before its time");
    world.pass(5);
    assert_eq!(world.heard((0, 0), ROOM), ["removed bob"]);
    world.assert_empty();
}

#[test]
fn a_hold_begins_when_the_last_connection_goes_whichever_node_it_is_on() {
    let mut world = World { hold: Duration::from_secs(3), ..World::new() };
    world.join((0, 0), ROOM, Some("ada")).unwrap();
    world.join((1, 1), ROOM, Some("bob")).unwrap();
    world.settle();
    world.heard((0, 0), ROOM);
    world.leave((1, 1), ROOM);
    world.join((0, 3), ROOM, Some("bob")).unwrap();
    world.settle();
    world.pass(2);
    world.leave((0, 3), ROOM);
    world.settle();
    world.pass(2);
    assert_eq!(world.heard((0, 0), ROOM), [""; 0], "the first hold has ended, the second has not");
    world.pass(2);
    assert_eq!(world.heard((0, 0), ROOM), ["removed bob"]);
    let everywhere = [(0, 3), (0, 5), (1, 1)];
    everywhere.iter().for_each(|name| world.join(*name, ROOM, Some("bob")).unwrap());
    world.settle();
    assert_eq!(world.heard((0, 0), ROOM), ["added bob"]);
    // All go before any of them has heard of another.
    everywhere.iter().for_each(|name| world.leave(*name, ROOM));
    world.settle();
    world.pass(2);
    assert_eq!(world.heard((0, 0), ROOM), [""; 0], "held");
    world.pass(2);
    assert_eq!(world.heard((0, 0), ROOM), ["removed bob"]);
    world.assert_empty();
}
