// What a page reads when it opens, and reads again when that changes.

import { useEffect, useState } from "../html.js";

// {data, problem, reload}; both are null at first. `read` gets an AbortSignal.
export function useLoad(read, dependencies) {
  const [state, setState] = useState({ data: null, problem: null });
  const [round, setRound] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    read(stop.signal).then(
      (data) => !stop.signal.aborted && setState({ data, problem: null }),
      (problem) => {
        if (stop.signal.aborted || problem.name === "AbortError") return;
        if (problem.status === undefined) throw problem;
        setState((before) => ({ data: before.data, problem }));
      },
    );
    return () => stop.abort();
  }, [...dependencies, round]);
  return { ...state, reload: () => setRound((before) => before + 1) };
}
