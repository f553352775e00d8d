LOCK TABLE golden.products IN ACCESS SHARE MODE;

SELECT e.value::text FROM (SELECT value FROM ((SELECT (product)::integer AS value FROM golden.product_words WHERE true AND (product) IS NOT NULL ORDER BY product OFFSET 49152 LIMIT 1)) AS ends ORDER BY value LIMIT 1) AS e;

(SELECT (golden.products.id)::integer AS value FROM golden.products WHERE true AND (golden.products.id) IS NOT NULL ORDER BY golden.products.id OFFSET 1000 LIMIT 1);

SELECT e.value::text FROM (SELECT value FROM ((SELECT (product)::integer AS value FROM golden.product_words WHERE true AND (product) IS NOT NULL ORDER BY product OFFSET 49152 LIMIT 1) UNION ALL (SELECT (golden.products.id)::integer AS value FROM golden.products WHERE true AND (golden.products.id) IS NOT NULL ORDER BY golden.products.id OFFSET 1000 LIMIT 1)) AS ends ORDER BY value LIMIT 1) AS e;

WITH both_sides AS MATERIALIZED (
  SELECT shelf, product, word, sum(tally_side) AS tally_surplus FROM (
    SELECT shelf, product, word, 1 AS tally_side FROM (
SELECT d.shelf, d.product, d.word FROM golden.product_words AS d
WHERE true AND NOT EXISTS (SELECT FROM tallykeeper.batched_product_words_pending_keys() AS k WHERE k.shelf = d.shelf AND k.product = d.product)
    ) AS stored
    UNION ALL SELECT shelf, product, word, -1 FROM (
SELECT r.shelf, r.product, r.word FROM (
SELECT s.shelf, s.product, s.word FROM (
SELECT CAST('all' AS TEXT) AS shelf, golden.products.id AS product, named.word
FROM golden.products JOIN LATERAL (SELECT DISTINCT unnest(golden.products.words) AS word) AS named ON true
WHERE named.word IS NOT NULL
) AS s WHERE true
) AS r
WHERE NOT EXISTS (SELECT FROM tallykeeper.batched_product_words_pending_keys() AS k WHERE k.shelf = r.shelf AND k.product = r.product)
    ) AS expected
  ) AS rows GROUP BY shelf, product, word
), differing AS (
  SELECT NULL::text AS day, jsonb_build_object('shelf', b.shelf, 'product', b.product, 'word', b.word) AS key,
         jsonb_agg('{}'::jsonb) FILTER (WHERE tally_surplus > 0) -> 0 AS stored,
         jsonb_agg('{}'::jsonb) FILTER (WHERE tally_surplus < 0) -> 0 AS expected,
         row_number() OVER (ORDER BY b.shelf, b.product, b.word) AS place
  FROM both_sides AS b WHERE tally_surplus <> 0 GROUP BY b.shelf, b.product, b.word
)
SELECT 0 AS place, (SELECT count(*) FROM both_sides WHERE tally_surplus = 0) + count(*) AS compared,
       count(*) AS differing, array_agg(DISTINCT day) FILTER (WHERE day IS NOT NULL) AS days,
       NULL AS day, NULL AS key, NULL AS stored, NULL AS expected FROM differing
UNION ALL
SELECT place, NULL, NULL, NULL, day, key, stored, expected FROM differing WHERE place <= 100
ORDER BY place;
