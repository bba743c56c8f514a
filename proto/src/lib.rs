//! The wire: fedmerge.v1 over gRPC.
