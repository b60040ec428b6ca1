// promql reads PromQL expressions from stdin, one a line, and says on stdout what each asks for: a JSON object with the names of
// its metrics and, for each, the labels that it is selected by; and all labels by which it groups or matches. Ends with 1 and the
// parser's message at the first expression that is none.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

type found struct {
	Metrics  map[string][]string `json:"metrics"`
	Grouping []string            `json:"grouping"`
}

func main() {
	promql, out, in := parser.NewParser(parser.Options{}), json.NewEncoder(os.Stdout), bufio.NewScanner(os.Stdin)
	for in.Scan() {
		expression, err := promql.ParseExpr(in.Text())
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", in.Text(), err)
			os.Exit(1)
		}
		asked := found{Metrics: map[string][]string{}, Grouping: []string{}}
		parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
			asked.add(node)
			return nil
		})
		if err := out.Encode(asked); err != nil {
			panic(err)
		}
	}
}

func (f *found) add(node parser.Node) {
	switch n := node.(type) {
	case *parser.VectorSelector:
		for _, matcher := range n.LabelMatchers {
			if matcher.Name != labels.MetricName {
				f.Metrics[n.Name] = append(f.Metrics[n.Name], matcher.Name)
			}
		}
		if f.Metrics[n.Name] == nil {
			f.Metrics[n.Name] = []string{}
		}
	case *parser.AggregateExpr:
		f.Grouping = append(f.Grouping, n.Grouping...)
	case *parser.BinaryExpr:
		if n.VectorMatching != nil {
			f.Grouping = append(append(f.Grouping, n.VectorMatching.MatchingLabels...), n.VectorMatching.Include...)
		}
	}
}
