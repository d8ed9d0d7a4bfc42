//! How many connections one address may have and open: off unless configured, for a server that faces the internet
//! without a proxy that does this.

use std::{collections::HashMap, net::IpAddr, num::NonZeroU32, sync::Arc, time::Instant};

use foldhash::quality::RandomState;
use parking_lot::Mutex;
use soundpost_protocol::rate::Bucket;

/// From so many addresses on, those without a connection are forgotten whenever the number has doubled.
const QUIET_MAX: usize = 65_536;

/// What one address may do. An IPv6 host owns a whole /64 and is counted as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressLimits {
    /// Connections at once; `None`: no limit.
    pub connections_max: Option<NonZeroU32>,
    /// New connections a second, with a burst of as many; `None`: no limit.
    pub connections_per_second: Option<NonZeroU32>,
}

#[derive(Debug, Default)]
struct Entry {
    open: u32,
    bucket: Option<Bucket>,
}

/// The addresses that have connections, or had one lately.
#[derive(Debug)]
pub struct Addresses {
    by_address: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    limits: AddressLimits,
    entries: HashMap<IpAddr, Entry, RandomState>,
    /// How many there were after the last time those without a connection were forgotten.
    kept: usize,
}

/// Why an address gets no further connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressRefusal {
    /// It has as many as it may.
    Connections,
    /// It opens them too fast.
    Rate,
}

impl Addresses {
    /// Nobody yet.
    pub fn new(limits: AddressLimits) -> Arc<Self> {
        Arc::new(Self { by_address: Mutex::new(Known { limits, ..Known::default() }) })
    }

    /// From now on other limits, which take nothing away from who is here. Connections that came while nothing was
    /// limited were not counted and never are.
    pub fn set_limits(&self, limits: AddressLimits) {
        self.by_address.lock().limits = limits;
    }

    /// Counts a connection in; `None` if nothing is limited, so that nothing need be counted.
    pub fn admit(
        self: &Arc<Self>,
        address: IpAddr,
        now: Instant,
    ) -> Result<Option<AddressPlace>, AddressRefusal> {
        let known = &mut *self.by_address.lock();
        let limits = known.limits;
        if limits == AddressLimits::default() {
            return Ok(None);
        }
        let address = whole_host(address);
        if known.entries.len() >= QUIET_MAX.max(2 * known.kept) {
            known.entries.retain(|_, entry| entry.open > 0);
            known.kept = known.entries.len();
        }
        let entry = known.entries.entry(address).or_default();
        if limits.connections_max.is_some_and(|max| entry.open >= max.get()) {
            return Err(AddressRefusal::Connections);
        }
        if let Some(per_second) = limits.connections_per_second {
            let bucket = entry.bucket.get_or_insert(Bucket::new(per_second, now));
            if !bucket.take(per_second, now) {
                return Err(AddressRefusal::Rate);
            }
        }
        entry.open += 1;
        Ok(Some(AddressPlace { addresses: Arc::clone(self), address }))
    }

    fn leave(&self, address: IpAddr) {
        let entries = &mut self.by_address.lock().entries;
        if let Some(entry) = entries.get_mut(&address) {
            entry.open -= 1;
            if entry.open == 0 && entry.bucket.is_none() {
                entries.remove(&address);
            }
        }
    }
}

/// One connection of an address, counted out when dropped.
#[derive(Debug)]
pub struct AddressPlace {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        self.addresses.leave(self.address);
    }
}

/// IPv4 as it is, also where it comes mapped into IPv6; of IPv6 the first 64 bits.
fn whole_host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn addresses(connections: u32, per_second: u32) -> Arc<Addresses> {
        Addresses::new(AddressLimits {
            connections_max: NonZeroU32::new(connections),
            connections_per_second: NonZeroU32::new(per_second),
        })
    }

    #[test]
    fn nothing_is_counted_where_nothing_is_limited() {
        let all = addresses(0, 0);
        assert!(all.admit([10, 0, 0, 1].into(), Instant::now()).unwrap().is_none());
        assert!(all.by_address.lock().entries.is_empty());
    }

    #[test]
    fn other_limits_hold_for_who_comes_next() {
        let all = addresses(0, 0);
        let now = Instant::now();
        let admit = || all.admit([10, 0, 0, 1].into(), now);
        let limit = |connections| {
            let connections_max = NonZeroU32::new(connections);
            all.set_limits(AddressLimits { connections_max, connections_per_second: None });
        };
        let _before = admit().unwrap();
        limit(2);
        let places = [admit().unwrap(), admit().unwrap()];
        assert!(admit().is_err(), "the one before is not counted");
        limit(1);
        assert!(admit().is_err());
        limit(3);
        let third = admit().unwrap();
        limit(0);
        assert!(admit().unwrap().is_none());
        drop((places, third));
        assert!(all.by_address.lock().entries.is_empty());
    }

    #[test]
    fn an_address_has_as_many_connections_as_it_may() {
        let all = addresses(2, 0);
        let now = Instant::now();
        let admit = |text: &str| all.admit(text.parse().unwrap(), now);
        let first = admit("10.0.0.1").unwrap();
        let _second = admit("::ffff:10.0.0.1").unwrap();
        assert_eq!(admit("10.0.0.1").unwrap_err(), AddressRefusal::Connections);
        assert!(admit("10.0.0.2").is_ok());
        drop(first);
        assert!(admit("10.0.0.1").is_ok());
        let _host = [admit("2001:db8::1").unwrap(), admit("2001:db8::2").unwrap()];
        assert_eq!(admit("2001:db8::3").unwrap_err(), AddressRefusal::Connections);
    }

    #[test]
    fn an_address_opens_connections_as_fast_as_it_may() {
        let all = addresses(0, 2);
        let start = Instant::now();
        let admit =
            |ms: u64| all.admit("10.0.0.1".parse().unwrap(), start + Duration::from_millis(ms)).is_ok();
        assert_eq!([0, 0, 0, 500, 500].map(admit), [true, true, false, true, false]);
    }
}
