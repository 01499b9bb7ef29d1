//! Response flags: why a request or a connection ended as it did, under Envoy's short strings.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// A set of Envoy's response flags.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ResponseFlags(u32);

macro_rules! flags {
    ($($bit:literal $name:ident $short:literal $long:literal;)*) => {
        impl ResponseFlags {
            $(#[doc = concat!("`", $short, "`: ", $long, ".")]
            pub const $name: ResponseFlags = ResponseFlags(1 << $bit);)*
        }
        /// In the order in which Envoy prints them: bit, short, long.
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
    pub const NONE: ResponseFlags = ResponseFlags(0);

    /// Whether no flag is set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether one of `other` is set.
    pub fn intersects(self, other: ResponseFlags) -> bool {
        self.0 & other.0 != 0
    }

    /// Adds flags.
    pub fn set(&mut self, other: ResponseFlags) {
        self.0 |= other.0;
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
        for entry in ALL.iter().filter(|(flag, ..)| self.intersects(*flag)) {
            if !first {
                out.write_char(',')?;
            }
            first = false;
            out.write_str(text(entry))?;
        }
        Ok(())
    }
}

impl BitOr for ResponseFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        ResponseFlags(self.0 | other.0)
    }
}

impl BitOrAssign for ResponseFlags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
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
        assert_eq!(two.to_string(), "UF,URX");
        assert_eq!(ResponseFlags::parse("NR"), Some(ResponseFlags::NO_ROUTE_FOUND));
        assert_eq!(ResponseFlags::parse("nope"), None);
    }
}
