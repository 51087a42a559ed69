// Where the boxes and arrows of a flow go: dagre decides, we bend the lines.

import { Graph, layout } from "./vendor/dagre.js";

export const BOX = { width: 158, height: 68 };
const SMALL = { source: { height: 36 }, sink: { height: 36 }, barrier: { height: 58 } };
const LINE = 28; // One message of a label: its type and below it its count.
const TIGHT = 16; // Between the columns of the graph, at least.
const LOOSE = 70; // So much more at most, to fill a wide room.
const LOOP = 46; // Room above a box for an arrow to itself.

const canvas = document.createElement("canvas").getContext("2d");

export function textWidth(text, font) {
  canvas.font = `${font} "Inter Variable", system-ui, sans-serif`;
  return canvas.measureText(text).width;
}

const labelWidth = (types) => Math.max(...types.map((type) => textWidth(type, "500 10.8px"))) + 8;

/** All edges between the same two nodes of the same sort become one arrow with several messages. */
export function arrows(flow) {
  const found = new Map();
  for (const edge of flow.edges) {
    const flag = edge.type === "";
    const key = JSON.stringify([edge.from, edge.to, flag]);
    if (!found.has(key)) found.set(key, { key, from: edge.from, to: edge.to, flag, edges: [] });
    found.get(key).edges.push(edge);
  }
  return [...found.values()];
}

/**
 * `{width, height, nodes: Map(id -> {x, y, width, height}), arrows: [{..., path, label: {x, y, width, height} | null}]}`;
 * positions are centres. `direction` is `LR` or `TB`; `aspect` is the width of the room over its height,
 * which a drawing from left to right is stretched towards.
 */
export function place(flow, direction, aspect) {
  const across = direction === "LR";
  let plan = attempt(flow, direction, TIGHT);
  if (across && plan.width / plan.height < aspect) {
    const wider = attempt(flow, direction, TIGHT + 20);
    const missing = plan.height * aspect - plan.width;
    const gap = TIGHT + Math.min(LOOSE, (20 * missing) / Math.max(1, wider.width - plan.width));
    plan = attempt(flow, direction, gap);
  }
  return plan;
}

function attempt(flow, direction, ranksep) {
  const graph = new Graph({ multigraph: true });
  graph.setGraph({ rankdir: direction, nodesep: 24, ranksep, edgesep: 14, marginx: 10, marginy: 10 });
  graph.setDefaultEdgeLabel(() => ({}));
  const loops = new Set(flow.edges.filter((edge) => edge.from === edge.to).map((edge) => edge.from));
  const sizes = new Map();
  for (const node of flow.nodes) {
    const named = textWidth(node.id, "600 13.5px") + 44;
    const small = SMALL[node.kind];
    const size = { width: small ? named : Math.max(BOX.width, named), height: small?.height ?? BOX.height };
    sizes.set(node.id, size);
    graph.setNode(node.id, { width: size.width, height: size.height + (loops.has(node.id) ? 2 * LOOP : 0) });
  }
  const drawn = arrows(flow);
  for (const arrow of drawn) {
    if (arrow.from === arrow.to) continue; // dagre draws these wrongly from left to right.
    const label = arrow.flag ? { width: 0, height: 0 } : { width: labelWidth(arrow.edges.map((edge) => edge.type)), height: LINE * arrow.edges.length };
    graph.setEdge(arrow.from, arrow.to, { ...label, labelpos: "c", weight: arrow.flag ? 1 : 2 }, arrow.key);
  }
  layout(graph);
  return geometry(graph, sizes, drawn);
}

function geometry(graph, sizes, drawn) {
  const nodes = new Map();
  for (const [id, size] of sizes) {
    const { x, y } = graph.node(id);
    nodes.set(id, { x, y, ...size });
  }
  for (const arrow of drawn) {
    if (arrow.from === arrow.to) {
      Object.assign(arrow, loop(nodes.get(arrow.from), arrow));
      continue;
    }
    const edge = graph.edge(arrow.from, arrow.to, arrow.key);
    const points = edge.points.map((point) => ({ ...point }));
    clamp(points[0], nodes.get(arrow.from));
    clamp(points.at(-1), nodes.get(arrow.to));
    arrow.path = curve(points);
    arrow.label = arrow.flag ? null : { x: edge.x, y: edge.y, width: edge.width, height: edge.height };
  }
  const { width, height } = graph.graph();
  return { width, height, nodes, arrows: drawn };
}

/** Bring the end of a line back to the box, where room for a loop was left around it. */
function clamp(point, box) {
  const half = box.height / 2;
  point.y = Math.min(box.y + half, Math.max(box.y - half, point.y));
}

function loop(box, arrow) {
  const top = box.y - box.height / 2;
  const reach = Math.min(44, box.width / 3);
  const width = labelWidth(arrow.edges.map((edge) => edge.type));
  const height = LINE * arrow.edges.length;
  return {
    path: `M${box.x + reach} ${top}c14 -34 -${reach * 2 + 28} -34 -${2 * reach} 0`,
    label: { x: box.x, y: top - 25 - height / 2 + 10, width, height },
  };
}

/** A smooth line: a uniform B-spline that starts and ends in the outer points. */
function curve(points) {
  if (points.length < 3) return `M${points.map(({ x, y }) => `${x} ${y}`).join("L")}`;
  const all = [points[0], points[0], ...points, points.at(-1), points.at(-1)];
  const at = (a, b, wa, wb) => `${((wa * a.x + wb * b.x) / 3).toFixed(1)} ${((wa * a.y + wb * b.y) / 3).toFixed(1)}`;
  let path = `M${points[0].x.toFixed(1)} ${points[0].y.toFixed(1)}`;
  for (let i = 1; i + 2 < all.length; i += 1) {
    const [a, b, c] = [all[i], all[i + 1], all[i + 2]];
    const end = `${((a.x + 4 * b.x + c.x) / 6).toFixed(1)} ${((a.y + 4 * b.y + c.y) / 6).toFixed(1)}`;
    path += `C${at(a, b, 2, 1)} ${at(a, b, 1, 2)} ${end}`;
  }
  const end = points.at(-1);
  return `${path}L${end.x.toFixed(1)} ${end.y.toFixed(1)}`;
}
