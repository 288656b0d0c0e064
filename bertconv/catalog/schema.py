"""The tables of the catalogue, the same in SQLite and PostgreSQL."""

from __future__ import annotations

VERSION = 1
"""Of the tables; a database with another one is not touched."""

_VERSION_TABLE = "bertconv_catalogue"
OWN_TABLES = (_VERSION_TABLE, "bertconv_manifests", "bertconv_parents", "bertconv_labels")

_STATEMENTS = (
    """CREATE TABLE IF NOT EXISTS bertconv_catalogue (
  version INTEGER PRIMARY KEY
)""",
    """CREATE TABLE IF NOT EXISTS bertconv_manifests (
  place {text} PRIMARY KEY, -- the folder or the URL that the manifest lies in
  stamp {text} NOT NULL, -- size and time, or ETag, of the manifest that was read; empty: it is read again next time
  believed INTEGER NOT NULL, -- 1: intact; 0: all the rest is empty
  problem {text} NOT NULL, -- why it is not believed, or what is not known of it
  sha256 {text} NOT NULL, -- of the manifest itself, as it states it
  digest {text} NOT NULL, -- of the model, with the algorithm before it; empty where nothing was verified
  backbone_digest {text} NOT NULL,
  family {text} NOT NULL, -- model type
  head {text} NOT NULL, -- model class
  part {text} NOT NULL, -- head: of a head alone
  format {text} NOT NULL,
  verb {text} NOT NULL, -- the command that made it
  verified {text} NOT NULL,
  bertconv {text} NOT NULL, -- version
  tensors BIGINT NOT NULL,
  nbytes BIGINT NOT NULL, -- of all files of the output
  label_set {text} NOT NULL -- digest of the names of the labels, whatever their order; empty: none, or not known
)""",
    """CREATE TABLE IF NOT EXISTS bertconv_parents (
  place {text} NOT NULL REFERENCES bertconv_manifests (place) ON DELETE CASCADE,
  number BIGINT NOT NULL,
  role {text} NOT NULL,
  given {text} NOT NULL, -- Hub id, or the last part of a path
  commit_id {text} NOT NULL, -- on the Hub
  digest {text} NOT NULL,
  backbone_digest {text} NOT NULL,
  PRIMARY KEY (place, number)
)""",
    """CREATE TABLE IF NOT EXISTS bertconv_labels (
  place {text} NOT NULL REFERENCES bertconv_manifests (place) ON DELETE CASCADE,
  number BIGINT NOT NULL,
  name {text} NOT NULL,
  PRIMARY KEY (place, number)
)""",
    "CREATE INDEX IF NOT EXISTS bertconv_manifests_digest ON bertconv_manifests (digest)",
    "CREATE INDEX IF NOT EXISTS bertconv_manifests_backbone ON bertconv_manifests (backbone_digest)",
    "CREATE INDEX IF NOT EXISTS bertconv_manifests_family ON bertconv_manifests (family, head)",
    "CREATE INDEX IF NOT EXISTS bertconv_manifests_head ON bertconv_manifests (head)",
    "CREATE INDEX IF NOT EXISTS bertconv_manifests_labels ON bertconv_manifests (label_set)",
    "CREATE INDEX IF NOT EXISTS bertconv_manifests_problem ON bertconv_manifests (place) WHERE problem <> ''",
    "CREATE INDEX IF NOT EXISTS bertconv_parents_digest ON bertconv_parents (digest)",
    "CREATE INDEX IF NOT EXISTS bertconv_parents_given ON bertconv_parents (given)",
    "CREATE INDEX IF NOT EXISTS bertconv_labels_name ON bertconv_labels (name)",
)

SQLITE_TEXT = "TEXT"
POSTGRESQL_TEXT = 'TEXT COLLATE "C"'
"""Texts are ordered by their bytes, as SQLite does: whatever begins with something is then one range of an index."""

READ_VERSION = f"SELECT version FROM {_VERSION_TABLE}"  # noqa: S608  (no text of anybody is in it)
WRITE_VERSION = f"INSERT INTO {_VERSION_TABLE} (version) VALUES (:version) ON CONFLICT (version) DO NOTHING"  # noqa: S608


def statements(text: str = SQLITE_TEXT) -> tuple[str, ...]:
    """What makes the tables and their indices.

    Args:
        text: the database's type of a text that is ordered by its bytes.
    """
    return tuple(statement.replace("{text}", text) for statement in _STATEMENTS)


def script(text: str = SQLITE_TEXT) -> str:
    """The same for people, and for the database's own shell."""
    return "".join(f"{statement};\n" for statement in statements(text))
