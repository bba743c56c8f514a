//! Who is enrolled, as the access table asks it of the ledger.

use fedmerge_common::failure::explain;
use fedmerge_common::ids::ClientId;

use super::access::Members;
use crate::store::ledger::Ledger;

impl Members for Ledger {
    async fn key_of(&self, client: &ClientId) -> Result<Option<[u8; 32]>, String> {
        let enrolled = self.client(client).await;
        let enrolled = enrolled.map_err(|error| explain(&error))?;
        Ok(enrolled.map(|enrolled| enrolled.key))
    }
}
