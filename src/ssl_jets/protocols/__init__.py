"""Long evaluations that train as well: what is finished is kept, and a stopped one goes on where it was."""

from ssl_jets.protocols.domain import DomainRun, domain_protocol
from ssl_jets.protocols.domain_result import DomainResult, domain_table

__all__ = ["DomainResult", "DomainRun", "domain_protocol", "domain_table"]
