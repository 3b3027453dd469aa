//! Which addresses are somebody's in public. IANA's registries of special addresses say which are not:
//! <https://www.iana.org/assignments/iana-ipv4-special-registry> and `iana-ipv6-special-registry` beside it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Blocks that are not called, by their first address and how many of its bits are the block's.
const V4: &[(Ipv4Addr, u32, &str)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8, "of this network"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "shared behind a carrier"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "this machine"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "of this link"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "reserved for protocols"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "for documentation"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "a relay of 6to4"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "for benchmarks"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "for documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "for documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    // With the broadcast address.
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

/// The one block that public addresses are given from. Outside of it are, among others, `::`, `::1`, IPv4 addresses in IPv6
/// (`::ffff:0:0/96`, `64:ff9b::/96`, `64:ff9b:1::/48`), private ones (`fc00::/7`), those of a link or a site
/// (`fe80::/10`, `fec0::/10`) and multicast (`ff00::/8`).
const PUBLIC_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Blocks within it that are not called.
const V6: &[(Ipv6Addr, u32, &str)] = &[
    // With Teredo, benchmarks and ORCHID.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "reserved for protocols"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "for documentation"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "an IPv4 address behind 6to4"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "for documentation"),
];

/// What an address is that must not be called; `None` where it is somebody's in public.
pub fn judge_address(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => {
            let is_in = |first: Ipv4Addr, bits: u32| (address.to_bits() ^ first.to_bits()) >> (32 - bits) == 0;
            V4.iter().find(|(first, bits, _)| is_in(*first, *bits)).map(|(_, _, what)| *what)
        }
        IpAddr::V6(address) => {
            let is_in = |first: Ipv6Addr, bits: u32| (address.to_bits() ^ first.to_bits()) >> (128 - bits) == 0;
            if !is_in(PUBLIC_V6.0, PUBLIC_V6.1) {
                return Some("no public address of IPv6");
            }
            V6.iter().find(|(first, bits, _)| is_in(*first, *bits)).map(|(_, _, what)| *what)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_class_of_special_addresses_is_called_from_its_first_to_its_last() {
        for text in [
            "0.0.0.0",
            "0.255.255.255",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "127.0.0.0",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.0.0",
            "169.254.169.254",
            "169.254.170.2",
            "169.254.255.255",
            "172.16.0.0",
            "172.31.255.255",
            "192.0.0.0",
            "192.0.0.170",
            "192.0.0.255",
            "192.0.2.0",
            "192.0.2.255",
            "192.88.99.0",
            "192.88.99.255",
            "192.168.0.0",
            "192.168.255.255",
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.0",
            "198.51.100.255",
            "203.0.113.0",
            "203.0.113.255",
            "224.0.0.0",
            "239.255.255.255",
            "240.0.0.0",
            "255.255.255.254",
            "255.255.255.255",
            // Unspecified, this machine, IPv4 in IPv6 as compatible, mapped and translated.
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::ffff:0:8.8.8.8",
            // NAT64, with a private address within and with a public one.
            "64:ff9b::10.0.0.1",
            "64:ff9b::8.8.8.8",
            "64:ff9b:1::1",
            "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
            // Discard, Teredo, benchmarks, ORCHID, documentation, 6to4, segment routing.
            "100::1",
            "2001::1",
            "2001:0:ffff::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:1ff:ffff::1",
            "2001:db8::",
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            "3fff::",
            "3fff:fff:ffff::1",
            "2002:7f00:1::1",
            "2002:808:808::1",
            "5f00::1",
            // Private, of a link, of a site, multicast.
            "fc00::",
            "fd00:ec2::254",
            "fdff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "feff::1",
            "ff00::",
            "ff02::1",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ] {
            assert!(judge_address(text.parse().expect("an address")).is_some(), "{text} would be called");
        }
    }

    #[test]
    fn their_neighbours_are_somebodys_in_public() {
        for text in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "191.255.255.255",
            "192.0.1.0",
            "192.0.3.0",
            "192.88.98.255",
            "192.88.100.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "198.51.101.0",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "2001:200::1",
            "2001:db7::1",
            "2001:db9::1",
            "2003::1",
            "2606:4700:4700::1111",
            "2a00:1450::1",
            "3ffe:ffff::1",
            "3fff:1000::1",
        ] {
            assert_eq!(judge_address(text.parse().expect("an address")), None, "{text} would not be called");
        }
    }
}
