//! Owns the words in which a socket is told why it ended.
//! Never decides what becomes of the session.

/// Why a socket was disconnected, in the official server's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DisconnectReason {
    /// The transport failed.
    TransportError,
    /// The client closed the transport, or it was lost.
    TransportClose,
    /// The client sent what is no packet.
    ParseError,
    /// No pong came in time.
    PingTimeout,
    /// The process is shutting down.
    ServerShuttingDown,
    /// The server closed the transport.
    ForcedClose,
    /// The server closed the transport below the socket, for example of a slow client.
    ForcedServerClose,
    /// The server disconnected this socket.
    ServerNamespaceDisconnect,
    /// The client disconnected this socket.
    ClientNamespaceDisconnect,
}

impl DisconnectReason {
    /// The text that handlers and logs see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TransportError => "transport error",
            Self::TransportClose => "transport close",
            Self::ParseError => "parse error",
            Self::PingTimeout => "ping timeout",
            Self::ServerShuttingDown => "server shutting down",
            Self::ForcedClose => "forced close",
            Self::ForcedServerClose => "forced server close",
            Self::ServerNamespaceDisconnect => "server namespace disconnect",
            Self::ClientNamespaceDisconnect => "client namespace disconnect",
        }
    }

    /// Whether a session that ended so may be recovered.
    #[must_use]
    pub fn is_recoverable(self) -> bool {
        match self {
            Self::TransportError
            | Self::TransportClose
            | Self::PingTimeout
            | Self::ServerShuttingDown
            | Self::ForcedClose
            | Self::ForcedServerClose => true,
            Self::ParseError | Self::ServerNamespaceDisconnect | Self::ClientNamespaceDisconnect => false,
        }
    }
}

impl std::fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
