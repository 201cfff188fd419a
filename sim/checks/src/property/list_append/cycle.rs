//! Cycles in a graph.

use std::collections::VecDeque;

use super::edges::{Edge, Graph};

/// How many edges a search for the smallest cycle follows before it is content with what it has. Only bad histories get here.
const EFFORT: usize = 20_000_000;

/// For each strongly connected component with more than one node its smallest cycle: each node with the edge that leaves it.
///
/// Only edges that leave transactions count for the size. In components that are very large it is the smallest that was found.
pub(super) fn smallest_cycles(graph: &Graph) -> Vec<Vec<(usize, Edge)>> {
    let component = components(graph);
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); graph.edges.len()];
    for (node, component) in component.iter().enumerate() {
        members[*component].push(node);
    }
    members.retain(|members| members.len() > 1);
    let mut search = Search::new(graph, &component);
    let mut cycles: Vec<_> = members
        .iter()
        .filter_map(|members| search.smallest(members))
        .collect();
    let transaction = |node: &usize| graph.transaction(*node).is_some();
    cycles.sort_by_key(|cycle| cycle.iter().filter(|(node, _)| transaction(node)).count());
    cycles
}

/// The number of each node's strongly connected component (Tarjan, without recursion).
fn components(graph: &Graph) -> Vec<usize> {
    const NONE: usize = usize::MAX;
    let nodes = graph.edges.len();
    let (mut index, mut low) = (vec![NONE; nodes], vec![NONE; nodes]);
    let mut component = vec![NONE; nodes];
    let (mut stack, mut path) = (Vec::new(), Vec::new());
    let (mut indices, mut found) = (0, 0);
    for root in 0..nodes {
        if index[root] != NONE {
            continue;
        }
        path.push((root, 0));
        while let Some((node, edge)) = path.pop() {
            if edge == 0 {
                (index[node], low[node]) = (indices, indices);
                indices += 1;
                stack.push(node);
            }
            if let Some((next, _)) = graph.edges[node].get(edge) {
                path.push((node, edge + 1));
                if index[*next] == NONE {
                    path.push((*next, 0));
                } else if component[*next] == NONE {
                    low[node] = low[node].min(index[*next]);
                }
                continue;
            }
            if low[node] == index[node] {
                while let Some(member) = stack.pop() {
                    component[member] = found;
                    if member == node {
                        break;
                    }
                }
                found += 1;
            }
            if let Some((parent, _)) = path.last() {
                low[*parent] = low[*parent].min(low[node]);
            }
        }
    }
    component
}

/// Breadth-first searches that share their memory.
struct Search<'a> {
    graph: &'a Graph,
    component: &'a [usize],
    /// Of the search that reached a node last: its start, the distance, and how it was reached.
    reached: Vec<Option<(usize, usize, usize, Edge)>>,
    effort: usize,
}

impl<'a> Search<'a> {
    fn new(graph: &'a Graph, component: &'a [usize]) -> Self {
        Self {
            graph,
            component,
            reached: vec![None; component.len()],
            effort: 0,
        }
    }

    fn smallest(&mut self, members: &[usize]) -> Option<Vec<(usize, Edge)>> {
        let mut best: Option<(usize, Vec<(usize, Edge)>)> = None;
        self.effort = 0;
        let transactions = members
            .iter()
            .filter(|node| self.graph.transaction(**node).is_some());
        for start in transactions {
            let limit = best.as_ref().map_or(usize::MAX, |(size, _)| *size);
            if limit <= 2 || (self.effort > EFFORT && best.is_some()) {
                break;
            }
            if let Some((size, last, edge)) = self.shortest(*start, limit) {
                best = Some((size, self.path(*start, last, edge)));
            }
        }
        best.map(|(_, cycle)| cycle)
    }

    /// The shortest way from a transaction back to itself, if it is shorter than `limit`: its length, last node and last edge.
    fn shortest(&mut self, start: usize, limit: usize) -> Option<(usize, usize, Edge)> {
        let mut limit = limit;
        let mut found = None;
        let mut queue = VecDeque::from([(start, 0)]);
        while let Some((node, distance)) = queue.pop_front() {
            let known = self.reached[node].filter(|reached| reached.0 == start);
            if node != start && known.is_some_and(|reached| reached.1 < distance) {
                continue;
            }
            let counts = usize::from(self.graph.transaction(node).is_some());
            let next_distance = distance + counts;
            if next_distance >= limit {
                continue;
            }
            for (next, edge) in &self.graph.edges[node] {
                self.effort += 1;
                if self.component[*next] != self.component[start] {
                    continue;
                }
                if *next == start {
                    (limit, found) = (next_distance, Some((next_distance, node, *edge)));
                    break;
                }
                let known = self.reached[*next].filter(|reached| reached.0 == start);
                if known.is_none_or(|reached| next_distance < reached.1) {
                    self.reached[*next] = Some((start, next_distance, node, *edge));
                    if counts == 0 {
                        queue.push_front((*next, next_distance));
                    } else {
                        queue.push_back((*next, next_distance));
                    }
                }
            }
        }
        found
    }

    fn path(&self, start: usize, last: usize, edge: Edge) -> Vec<(usize, Edge)> {
        let mut path = vec![(last, edge)];
        let mut node = last;
        while node != start {
            let Some((_, _, from, edge)) = self.reached[node] else {
                break;
            };
            path.push((from, edge));
            node = from;
        }
        path.reverse();
        path
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NODES: usize = 9;

    /// The number of transactions in the smallest cycle through each node, by all ways of all lengths.
    fn smallest_by_trying(transactions: usize, edges: &[(usize, usize)]) -> Option<usize> {
        let mut ways = [[usize::MAX; NODES]; NODES];
        for (from, to) in edges {
            ways[*from][*to] = usize::from(*from < transactions);
        }
        for via in 0..NODES {
            for from in 0..NODES {
                for to in 0..NODES {
                    let way = ways[from][via].saturating_add(ways[via][to]);
                    ways[from][to] = ways[from][to].min(way);
                }
            }
        }
        let cycles = (0..transactions).map(|node| ways[node][node]);
        cycles.filter(|size| *size < usize::MAX).min()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Helpers only lead to later helpers and to transactions, as in the graphs of histories.
        #[test]
        fn smallest_cycle_is_the_smallest_of_all(
            transactions in 3..NODES,
            drawn in prop::collection::btree_set((0..NODES, 0..NODES), 0..16),
        ) {
            let forward = |(from, to): &(usize, usize)| from < to || (*from < transactions && from != to) || *to < transactions;
            let drawn: Vec<(usize, usize)> = drawn.into_iter().filter(|edge| edge.0 != edge.1 && forward(edge)).collect();
            let mut edges = vec![Vec::new(); NODES];
            for (from, to) in &drawn {
                edges[*from].push((*to, Edge::RealTime));
            }
            let expected = smallest_by_trying(transactions, &drawn);
            // No history lets a helper lead back to the only transaction that leads to it.
            prop_assume!(expected != Some(1));
            let cycles = smallest_cycles(&Graph::from_edges(transactions, edges));
            let size = |cycle: &Vec<(usize, Edge)>| cycle.iter().filter(|(node, _)| *node < transactions).count();
            prop_assert_eq!(cycles.first().map(size), expected);
            for cycle in &cycles {
                for (n, (node, _)) in cycle.iter().enumerate() {
                    let next = cycle[(n + 1) % cycle.len()].0;
                    prop_assert!(drawn.contains(&(*node, next)), "{:?}", cycle);
                }
            }
        }
    }
}
