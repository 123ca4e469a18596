//! Places for those who come: so many in all, and so many of one owner.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// The high bits of an IPv6 address that name a client: a host has a network of its own.
const NETWORK_MASK: u128 = !0xffff_ffff_ffff_ffff;

/// Returns the address by which a client is recognised: its own, or the /64 network of an IPv6 one.
pub fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & NETWORK_MASK))
        }
        address @ (IpAddr::V4(_) | IpAddr::V6(_)) => address,
    }
}

/// A bounded number of places, of which no owner has more than its share.
#[derive(Debug)]
pub struct Places<K> {
    all_max: usize,
    own_max: usize,
    taken: Arc<Mutex<BTreeMap<K, usize>>>,
}

/// A place, which is free again when this is dropped.
#[derive(Debug)]
pub struct Place<K: Ord> {
    owner: K,
    taken: Arc<Mutex<BTreeMap<K, usize>>>,
}

impl<K: Clone + Ord> Places<K> {
    /// Returns `all_max` places, at most `own_max` of them for one owner.
    pub fn new(all_max: usize, own_max: usize) -> Self {
        Self { all_max, own_max, taken: Arc::default() }
    }

    /// Takes a place, unless all or all of this owner are taken.
    pub fn take(&self, owner: K) -> Option<Place<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(&owner).copied().unwrap_or_default();
        if own >= self.own_max || taken.values().sum::<usize>() >= self.all_max {
            return None;
        }
        taken.insert(owner.clone(), own + 1);
        Some(Place { owner, taken: Arc::clone(&self.taken) })
    }
}

impl<K: Ord> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.owner) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn no_owner_takes_more_than_its_share_and_a_place_that_is_left_is_free() {
        let places = Places::new(4, 2);
        let first = places.take("a").unwrap();
        let _second = places.take("a").unwrap();
        assert!(places.take("a").is_none());
        let _others = [places.take("b").unwrap(), places.take("c").unwrap()];
        assert!(places.take("d").is_none(), "four are taken");
        drop(first);
        assert!(places.take("d").is_some());
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let client = |text| client(address(text));
        assert_eq!(client("2001:db8:0:7::1"), client("2001:db8:0:7:ffff::2"));
        assert_ne!(client("2001:db8:0:7::1"), client("2001:db8:0:8::1"));
        assert_ne!(client("::1"), client("::2"));
        assert_eq!(client("::ffff:10.0.0.1"), address("10.0.0.1"));
    }
}
