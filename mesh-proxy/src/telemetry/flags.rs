//! Response flags: why a request or a connection ended as it did, under Envoy's short strings.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{BitOr, BitOrAssign};

/// A set of Envoy's response flags, in the order in which they were set.
#[derive(Debug, Clone, Copy, Default)]
pub struct ResponseFlags {
    bits: u32,
    /// The numbers of the flags, from 1, in five bits each, the first one lowest. There is room for twelve.
    order: u64,
}

/// Of a number in `order`.
const WIDTH: u32 = 5;

macro_rules! flags {
    ($($bit:literal $name:ident $short:literal $long:literal;)*) => {
        impl ResponseFlags {
            $(#[doc = concat!("`", $short, "`: ", $long, ".")]
            pub const $name: ResponseFlags = ResponseFlags { bits: 1 << $bit, order: $bit + 1 };)*
        }
        /// Flag, short, long; each at the place of its bit.
        const ALL: &[(ResponseFlags, &str, &str)] = &[$((ResponseFlags::$name, $short, $long),)*];
    };
}

flags! {
    0 FAILED_LOCAL_HEALTH_CHECK "LH" "FailedLocalHealthCheck";
    1 NO_HEALTHY_UPSTREAM "UH" "NoHealthyUpstream";
    2 UPSTREAM_REQUEST_TIMEOUT "UT" "UpstreamRequestTimeout";
    3 LOCAL_RESET "LR" "LocalReset";
    4 UPSTREAM_REMOTE_RESET "UR" "UpstreamRemoteReset";
    5 UPSTREAM_CONNECTION_FAILURE "UF" "UpstreamConnectionFailure";
    6 UPSTREAM_CONNECTION_TERMINATION "UC" "UpstreamConnectionTermination";
    7 UPSTREAM_OVERFLOW "UO" "UpstreamOverflow";
    8 NO_ROUTE_FOUND "NR" "NoRouteFound";
    9 DELAY_INJECTED "DI" "DelayInjected";
    10 FAULT_INJECTED "FI" "FaultInjected";
    11 RATE_LIMITED "RL" "RateLimited";
    12 UNAUTHORIZED_EXTERNAL_SERVICE "UAEX" "UnauthorizedExternalService";
    13 RATE_LIMIT_SERVICE_ERROR "RLSE" "RateLimitServiceError";
    14 DOWNSTREAM_CONNECTION_TERMINATION "DC" "DownstreamConnectionTermination";
    15 UPSTREAM_RETRY_LIMIT_EXCEEDED "URX" "UpstreamRetryLimitExceeded";
    16 STREAM_IDLE_TIMEOUT "SI" "StreamIdleTimeout";
    17 INVALID_ENVOY_REQUEST_HEADERS "IH" "InvalidEnvoyRequestHeaders";
    18 DOWNSTREAM_PROTOCOL_ERROR "DPE" "DownstreamProtocolError";
    19 UPSTREAM_MAX_STREAM_DURATION_REACHED "UMSDR" "UpstreamMaxStreamDurationReached";
    20 RESPONSE_FROM_CACHE_FILTER "RFCF" "ResponseFromCacheFilter";
    21 NO_FILTER_CONFIG_FOUND "NFCF" "NoFilterConfigFound";
    22 DURATION_TIMEOUT "DT" "DurationTimeout";
    23 UPSTREAM_PROTOCOL_ERROR "UPE" "UpstreamProtocolError";
    24 NO_CLUSTER_FOUND "NC" "NoClusterFound";
    25 OVERLOAD_MANAGER "OM" "OverloadManagerTerminated";
    26 DNS_RESOLUTION_FAILED "DF" "DnsResolutionFailed";
    27 DROP_OVERLOAD "DO" "DropOverLoad";
    28 DOWNSTREAM_REMOTE_RESET "DR" "DownstreamRemoteReset";
    29 UNCONDITIONAL_DROP_OVERLOAD "UDO" "UnconditionalDropOverload";
}

impl ResponseFlags {
    /// No flag.
    pub const NONE: ResponseFlags = ResponseFlags { bits: 0, order: 0 };

    /// Whether no flag is set.
    pub fn is_empty(self) -> bool {
        self.bits == 0
    }

    /// Whether one of `other` is set.
    pub fn intersects(self, other: ResponseFlags) -> bool {
        self.bits & other.bits != 0
    }

    /// Adds flags behind those that are there.
    pub fn set(&mut self, other: ResponseFlags) {
        for (flag, ..) in other.in_order() {
            let room = WIDTH * self.bits.count_ones();
            if !self.intersects(*flag) && room + WIDTH <= u64::BITS {
                self.bits |= flag.bits;
                self.order |= flag.order << room;
            }
        }
    }

    fn in_order(self) -> impl Iterator<Item = &'static (ResponseFlags, &'static str, &'static str)> {
        let numbers = (0..).map(move |i| self.order.checked_shr(WIDTH * i).unwrap_or(0) & ((1 << WIDTH) - 1));
        let numbers = numbers.take_while(|number| *number > 0);
        numbers.filter_map(|number| ALL.get(usize::try_from(number).ok()? - 1))
    }

    /// The flag of a short string, such as `NR`.
    pub fn parse(short: &str) -> Option<Self> {
        ALL.iter().find(|(_, s, _)| *s == short).map(|(flag, ..)| *flag)
    }

    /// Writes the short strings, comma between them; `-` for none.
    ///
    /// # Errors
    /// As the writer.
    pub fn write_short(self, out: &mut impl fmt::Write) -> fmt::Result {
        self.write(out, |(_, short, _)| short)
    }

    /// Writes the long names (`%RESPONSE_FLAGS_LONG%`).
    ///
    /// # Errors
    /// As the writer.
    pub fn write_long(self, out: &mut impl fmt::Write) -> fmt::Result {
        self.write(out, |(.., long)| long)
    }

    fn write(
        self,
        out: &mut impl fmt::Write,
        text: fn(&(ResponseFlags, &'static str, &'static str)) -> &'static str,
    ) -> fmt::Result {
        if self.is_empty() {
            return out.write_char('-');
        }
        let mut first = true;
        for entry in self.in_order() {
            if !first {
                out.write_char(',')?;
            }
            first = false;
            out.write_str(text(entry))?;
        }
        Ok(())
    }
}

impl PartialEq for ResponseFlags {
    fn eq(&self, other: &Self) -> bool {
        self.bits == other.bits
    }
}

impl Eq for ResponseFlags {}

impl Hash for ResponseFlags {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bits.hash(state);
    }
}

impl BitOr for ResponseFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        let mut both = self;
        both.set(other);
        both
    }
}

impl BitOrAssign for ResponseFlags {
    fn bitor_assign(&mut self, other: Self) {
        self.set(other);
    }
}

impl fmt::Display for ResponseFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_short(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_print_as_envoy_does() {
        assert_eq!(ResponseFlags::NONE.to_string(), "-");
        let two = ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED | ResponseFlags::UPSTREAM_CONNECTION_FAILURE;
        // In the order in which they were set.
        assert_eq!(two.to_string(), "URX,UF");
        assert_eq!((two | two).to_string(), "URX,UF");
        assert_eq!(ResponseFlags::parse("NR"), Some(ResponseFlags::NO_ROUTE_FOUND));
        assert_eq!(ResponseFlags::parse("nope"), None);
    }
}
