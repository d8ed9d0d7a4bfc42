//! Where Redis is can be said in three ways, and who logs in in two. Of two sources the earlier counts here as anywhere
//! else; within one source saying it twice is left for [`super::resolve`] to refuse.

use super::{super::layers::Flat, url::RedisUrl};

/// The three ways, each with the keys that go with it; numbered entries of lists stand below their key.
const WAYS: [&[&str]; 3] = [
    &["redis.url"],
    &["redis.sentinels", "redis.master", "redis.sentinel_username", "redis.sentinel_password"],
    &["redis.cluster"],
];

/// Takes out of the layers, which rise in precedence, what a higher one says in another way.
pub(in super::super) fn settle(layers: &mut [Flat]) {
    // The first key of each says where Redis is, the others do not without it.
    let says = |flat: &Flat, way: &[&str]| way.iter().take(1).any(|key| flat.keys().any(|k| is_of(k, key)));
    let highest = layers.iter().enumerate().rev().find(|(_, flat)| WAYS.iter().any(|way| says(flat, way)));
    if let Some((index, flat)) = highest {
        let others: Vec<_> = WAYS.into_iter().filter(|way| !says(flat, way)).flatten().collect();
        for lower in layers.iter_mut().take(index) {
            lower.retain(|key, _| !others.iter().any(|other| is_of(key, other)));
        }
    }
    for index in 0..layers.len() {
        let url = layers.get(index).and_then(|flat| flat.get("redis.url"));
        let Some(url) = url.and_then(|url| RedisUrl::parse(&url.to_string()).ok()) else { continue };
        for lower in layers.iter_mut().take(index) {
            lower.retain(|key, _| match key.as_str() {
                "redis.username" | "redis.password" => !url.logs_in(),
                "redis.database" => url.database.is_none(),
                _ => true,
            });
        }
    }
}

/// Whether a key is this one, or an entry of its list.
fn is_of(key: &str, list: &str) -> bool {
    key.strip_prefix(list).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
