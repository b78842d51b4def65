//! What a user sets, on SQLite.

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::{Sqlite, execute, optional};
use crate::codec::{add_sorted, decode_strings, encode_archive_preferences, encode_strings};
use crate::{AccountId, ArchivePreferences, BlockList, Error, Fence, Preferences, VCard};

fn block_list(connection: &Connection, account: AccountId) -> Result<Option<BlockList>, Error> {
    let sql = "SELECT blocked_version, blocked FROM account WHERE id = ?1";
    let stored = optional(connection, sql, [account.0], |row| {
        Ok((row.get(0)?, row.get::<_, String>(1)?))
    })?;
    stored
        .map(|(version, json)| {
            Ok(BlockList {
                version,
                jids: decode_strings(&json)?,
            })
        })
        .transpose()
}

fn set_block_list(
    connection: &Connection,
    account: AccountId,
    list: &mut BlockList,
) -> Result<(), Error> {
    list.version += 1;
    let sql = "UPDATE account SET blocked_version = ?2, blocked = ?3 WHERE id = ?1";
    execute(
        connection,
        sql,
        params![account.0, list.version, encode_strings(&list.jids)],
    )
    .map(drop)
}

#[async_trait]
impl Preferences for Sqlite {
    async fn archive_preferences_set(
        &self,
        fence: Fence,
        account: AccountId,
        preferences: &ArchivePreferences,
    ) -> Result<(), Error> {
        let json = encode_archive_preferences(preferences);
        let sql = "UPDATE account SET archive_preferences = ?2 WHERE id = ?1";
        self.write(fence, move |c| {
            execute(c, sql, params![account.0, json]).map(drop)
        })
        .await
    }

    async fn blocking_list(&self, account: AccountId) -> Result<BlockList, Error> {
        self.read(move |connection| Ok(block_list(connection, account)?.unwrap_or_default()))
            .await
    }

    async fn blocking_add(
        &self,
        fence: Fence,
        account: AccountId,
        jids: &[String],
        blocked_max: u32,
    ) -> Result<BlockList, Error> {
        let jids = jids.to_vec();
        self.write(fence, move |connection| {
            let mut list =
                block_list(connection, account)?.ok_or(Error::Conflict("the account is gone"))?;
            if add_sorted(&mut list.jids, &jids) {
                if list.jids.len() > blocked_max as usize {
                    return Err(Error::Conflict("the block list is full"));
                }
                set_block_list(connection, account, &mut list)?;
            }
            Ok(list)
        })
        .await
    }

    async fn blocking_remove(
        &self,
        fence: Fence,
        account: AccountId,
        jids: Option<&[String]>,
    ) -> Result<BlockList, Error> {
        let jids = jids.map(<[String]>::to_vec);
        self.write(fence, move |connection| {
            let Some(mut list) = block_list(connection, account)? else {
                return Ok(BlockList::default());
            };
            let before = list.jids.len();
            list.jids
                .retain(|jid| jids.as_ref().is_some_and(|going| !going.contains(jid)));
            if list.jids.len() != before {
                set_block_list(connection, account, &mut list)?;
            }
            Ok(list)
        })
        .await
    }

    async fn private_get(
        &self,
        account: AccountId,
        namespace: &str,
        name: &str,
    ) -> Result<Option<String>, Error> {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let sql = "SELECT xml FROM private_xml WHERE account = ?1 AND namespace = ?2 AND name = ?3";
        self.read(move |c| {
            optional(c, sql, params![account.0, namespace, name], |row| {
                row.get(0)
            })
        })
        .await
    }

    async fn private_set(
        &self,
        fence: Fence,
        account: AccountId,
        namespace: &str,
        name: &str,
        xml: &str,
        bytes_max: u64,
    ) -> Result<(), Error> {
        let (namespace, name, xml) = (namespace.to_owned(), name.to_owned(), xml.to_owned());
        self.write(fence, move |connection| {
            let sql = "SELECT coalesce(sum(octet_length(namespace) + octet_length(name) + octet_length(xml)), 0),
                       coalesce(sum(octet_length(xml)) FILTER (WHERE namespace = ?2 AND name = ?3), -1)
                       FROM private_xml WHERE account = ?1";
            let stored = optional(connection, sql, params![account.0, namespace, name], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
            let (all, earlier): (i64, i64) = stored.unwrap_or((0, -1));
            let more = match earlier {
                0.. => xml.len() as i64 - earlier,
                _ => (namespace.len() + name.len() + xml.len()) as i64,
            };
            if more > 0 && (all + more).unsigned_abs() > bytes_max {
                return Err(Error::Full("private XML"));
            }
            execute(
                connection,
                "INSERT INTO private_xml (account, namespace, name, xml) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (account, namespace, name) DO UPDATE SET xml = excluded.xml",
                params![account.0, namespace, name, xml],
            )
            .map(drop)
        })
        .await
    }

    async fn vcard_get(&self, account: AccountId) -> Result<Option<VCard>, Error> {
        let sql = "SELECT xml, photo_hash FROM vcard WHERE account = ?1";
        self.read(move |c| {
            optional(c, sql, [account.0], |row| {
                Ok(VCard {
                    xml: row.get(0)?,
                    photo_hash: row.get(1)?,
                })
            })
        })
        .await
    }

    async fn vcard_set(
        &self,
        fence: Fence,
        account: AccountId,
        vcard: Option<&VCard>,
    ) -> Result<(), Error> {
        let vcard = vcard.cloned();
        self.write(fence, move |connection| {
            let Some(vcard) = vcard else {
                return execute(connection, "DELETE FROM vcard WHERE account = ?1", [account.0]).map(drop);
            };
            execute(
                connection,
                "INSERT INTO vcard (account, xml, photo_hash) VALUES (?1, ?2, ?3)
                 ON CONFLICT (account) DO UPDATE SET xml = excluded.xml, photo_hash = excluded.photo_hash",
                params![account.0, vcard.xml, vcard.photo_hash],
            )
            .map(drop)
        })
        .await
    }
}
