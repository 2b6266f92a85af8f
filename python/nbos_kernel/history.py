"""History of the session without a database.

Stock IPython keeps its history in one sqlite file a profile, written by a thread. A replica cannot:
the file would differ from host to host. The inputs of this session are replicated state instead, so
this class answers every question from the lists `In` and `Out`, also after a failover.
"""

import fnmatch

from IPython.core.history import HistoryManager


class SessionHistory(HistoryManager):
    """Takes over an existing HistoryManager by assignment to its __class__ (see install)."""

    def _entries(self, raw, output, start=1, stop=None):
        inputs = self.input_hist_raw if raw else self.input_hist_parsed
        for line in range(max(start, 1), min(stop or len(inputs), len(inputs))):
            text = inputs[line]
            yield (0, line, (text, self.output_hist_reprs.get(line)) if output else text)

    def get_tail(self, n=10, raw=True, output=False, include_latest=False):
        entries = list(self._entries(raw, output))
        if not include_latest:
            entries = entries[:-1]
        n = 10 if n is None else n
        return entries[-n:] if n > 0 else []

    def search(self, pattern="*", raw=True, search_raw=True, output=False, n=None, unique=False):
        searched = self.input_hist_raw if search_raw else self.input_hist_parsed
        found = [
            entry
            for entry in self._entries(raw, output)
            if entry[1] < len(searched) and fnmatch.fnmatchcase(searched[entry[1]], pattern)
        ]
        if unique:
            latest = {entry[2][0] if output else entry[2]: entry for entry in found}
            found = sorted(latest.values(), key=lambda entry: entry[1])
        return found if n is None else found[-n:] if n > 0 else []

    def get_range(self, session=0, start=1, stop=None, raw=True, output=False):
        if session not in (0, self.session_number):
            return iter(())  # other sessions are not kept
        return self._get_range_session(start, stop, raw, output)

    def get_session_info(self, session=0):
        return (0, None, None, len(self.input_hist_parsed) - 1, "")

    def get_last_session_id(self):
        return 0

    def writeout_cache(self, conn=None):
        pass

    def end_session(self):
        pass

    def new_session(self, conn=None):
        self.session_number = 0


def install(shell):
    manager = shell.history_manager
    manager.enabled = False
    manager.__class__ = SessionHistory
