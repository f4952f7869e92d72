"""Dead letters lose a column that nothing ever filled."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_column("dead_letters", "parsed")
