<?php return [ 'a' => 'it\'s', "b\u{17c}\101\n" => <<<EOT
  hush $x
  EOT, 'c' => `ls`, #[A] 'd' => "5$ {x}", 0x1F => -.5e3, 017 => function () { return 1; } ] ?> tail
